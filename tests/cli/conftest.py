from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glissando.cli.console import COMMANDS
from glissando.cli.main import run
from tiny import Said

Command = Callable[..., Said]

FILES = {
    "play.yaml": """\
# Play something.
#
#   python play.py model=dit model.width=8

defaults:
  - model: dit
  - conditioning: [adaln]
  - _self_
  - experiment: null

prompt: null  # what to play, as typed
ckpt: demo  # which weights
seed: 0
loader: # how data is read
  workers: 1 # processes
fast: true
steps: ${model.depth}
sizes: [1, 2]
owner: ???

hydra:
  run:
    dir: runs/one
  sweep:
    dir: runs/many
  job_logging:
    root:
      handlers: []
""",
    "model/dit.yaml": "name: dit\nwidth: 4\ndepth: 2\nlr: 0.1\nprecision: 32-true\n",
    "model/unet.yaml": "name: unet\nwidth: 3\nfactor: 2\n",
    "conditioning/adaln.yaml": "adaln:\n  reads: [noise]\n",
    "conditioning/prefix.yaml": "prefix:\n  reads: [text]\n",
    "experiment/tiny.yaml": "# @package _global_\nmodel:\n  width: 1\n",
}


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Hydra sets up logging for the process that it thinks is its own: put back what was there."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """``command(name, *argv)``: ``glissando <name> …`` in this process and an empty folder."""
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


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A small Hydra conf with a group, a list group and experiments."""
    for name, text in FILES.items():
        file = tmp_path / "conf" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "conf"
