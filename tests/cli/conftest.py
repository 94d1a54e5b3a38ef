from __future__ import annotations

from pathlib import Path

import pytest

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
def _logging(own_logging: None) -> None:
    """Of all tests here."""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A small Hydra conf with a group, a list group and experiments."""
    for name, text in FILES.items():
        file = tmp_path / "conf" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "conf"
