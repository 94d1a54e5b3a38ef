"""What tests of several rooms share: a tiny prepared dataset and one training run in process."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from glissando.cli.conf import config_dir

if str(Path(__file__).parent) not in sys.path:  # `tiny`, in any import mode
    sys.path.insert(0, str(Path(__file__).parent))

from tiny import RATE, SHORT, VAE, Command, Said, Train


@pytest.fixture(scope="session")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 captioned tones, 1.5 s at 8 kHz, mono."""
    root = tmp_path_factory.mktemp("songs")
    chance = np.random.default_rng(0)
    time = np.arange(int(1.5 * RATE)) / RATE
    for number in range(12):
        pitch = 110 * 2 ** (number / 12)
        wave = sum(0.3 / k * np.sin(2 * np.pi * k * pitch * time) for k in (1, 2, 3))
        wave = wave + 0.01 * chance.normal(size=len(time))
        soundfile.write(root / f"tone{number:02d}.wav", wave, RATE)
        (root / f"tone{number:02d}.txt").write_text(f"a tone at {pitch:.0f} Hz")
    return root


@pytest.fixture(scope="session")
def train(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """``train(folder, *overrides)``: what ``python train.py`` does, in this process, on the tones.

    Prepared data and latents are shared by all runs of the session.
    """
    shared = tmp_path_factory.mktemp("shared")

    def run(folder: Path, *overrides: str) -> float | None:
        from hydra import compose, initialize_config_dir
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import open_dict

        from glissando.training.fit import train

        data = [
            "data=folder", f"data.root={songs}", f"data.sample_rate={RATE}",
            f"prepare.shards={shared / 'shards'}", f"hydra.run.dir={folder}",
        ]  # fmt: skip
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            cfg = compose("train", [*SHORT, *data, *overrides], return_hydra_config=True)
            with open_dict(cfg.hydra):
                cfg.hydra.runtime.output_dir = str(folder)
            HydraConfig.instance().set_config(cfg)
            with open_dict(cfg):
                del cfg["hydra"]
        folder.mkdir(parents=True, exist_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(shared)  # latents are filed below the working directory
            return train(cfg)

    return run


@pytest.fixture(scope="session")
def vae(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an autoencoder that has trained a little."""
    folder = tmp_path_factory.mktemp("vae")
    train(folder, *VAE, "trainer.max_steps=4")
    return folder


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Hydra sets up logging for the process that it thinks is its own: put back what was there."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    own_logging: None,
) -> Command:  # fmt: skip
    """``command(name, *argv)``: ``glissando <name> …`` in this process and an empty folder."""
    from glissando.cli.console import COMMANDS
    from glissando.cli.main import run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # run sets it
    monkeypatch.delenv("GLISSANDO_DEBUG", raising=False)

    def command(name: str, *argv: str) -> Said:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *argv])
        capfd.readouterr()
        status = 0
        try:
            run(name, COMMANDS[name].config, COMMANDS[name].function)
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        said = capfd.readouterr()
        return Said(status, said.out, said.err)

    return command
