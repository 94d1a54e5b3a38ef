"""All processes of a launch have one run folder, whoever started them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from glissando.cli import started
from tiny import RATE, SHORT, VAE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (started.VARIABLE, "SLURM_JOB_ID", "SLURM_STEP_ID", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_process_on_its_own_agrees_with_nobody() -> None:
    started.agree()
    assert started.VARIABLE not in os.environ


def test_a_slurm_step_keeps_the_time_of_its_first_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    started.agree()
    first = os.environ[started.VARIABLE]
    monkeypatch.setattr(started.time, "strftime", lambda _: "1999-01-01/00-00-00")
    monkeypatch.delenv(started.VARIABLE)
    started.agree()
    assert os.environ[started.VARIABLE] == first  # another task, or the job once requeued
    monkeypatch.delenv(started.VARIABLE)
    monkeypatch.setenv("SLURM_STEP_ID", "1")
    started.agree()
    assert os.environ[started.VARIABLE] == "1999-01-01/00-00-00"
    assert len(list(started.REGISTER.iterdir())) == 2
    monkeypatch.delenv(started.VARIABLE)


@pytest.mark.slow
def test_torchrun(songs: Path, tmp_path: Path) -> None:
    """Both processes want the data at once, and one run folder comes of it."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        str(ROOT / "train.py"), *SHORT, *VAE, "data=folder", f"data.root={songs}",
        f"data.sample_rate={RATE}", "data.splits.train=0.5", "data.splits.valid=0.5",
        "data.splits.test=0", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_steps=3",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=400)
    assert done.returncode == 0, done.stderr
    (run,) = Path("outputs").glob("*/*")
    assert (run / "checkpoints" / "last.ckpt").is_file()
