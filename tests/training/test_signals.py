"""Whole processes, broken off from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from glissando.checkpoints.files import read_training
from glissando.training.safe_io import SafeCheckpointIO
from tiny import RATE, SHORT, VAE, Train, numbers, stored

ROOT = Path(__file__).resolve().parents[2]


def test_a_crash_while_saving_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    SafeCheckpointIO().save_checkpoint({"x": 1}, path)
    whole = path.read_bytes()

    def torn(_: object, file: object) -> None:
        file.write(whole[:100])  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(OSError, match="No space"):
        SafeCheckpointIO().save_checkpoint({"x": 2}, path)
    assert path.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


@contextmanager
def running(folder: Path, songs: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable, str(ROOT / "train.py"), *SHORT, *VAE, "data=folder", f"data.root={songs}",
        f"data.sample_rate={RATE}", f"prepare.shards={folder / 'shards'}",
        f"hydra.run.dir={folder / 'run'}", "callbacks.checkpoint.every_n_train_steps=1", *more,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 180
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_save_and_the_run_goes_on(
    train: Train, songs: Path, tmp_path: Path, number: int, status: int
) -> None:
    steps = 400
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with running(tmp_path, songs, f"trainer.max_steps={steps}", "loader.workers=1") as process:
        wait_for(last, process)
        # A terminal's Ctrl-C goes to the data loader's workers as well.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == status, said
    reached = stored(tmp_path / "run")["global_step"]
    assert 0 < reached < steps, "it was too fast to be interrupted"
    assert f"ckpt={last}" in said
    assert "Traceback" not in said
    train(tmp_path / "run", *VAE, f"trainer.max_steps={reached + 3}", f"schedule.steps={steps}",
          "ckpt=last")  # fmt: skip
    train(tmp_path / "whole", *VAE, f"trainer.max_steps={reached + 3}", f"schedule.steps={steps}")
    losses = [[row["train/loss"] for row in numbers(tmp_path / name)] for name in ("run", "whole")]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_sigkill_leaves_whole_files(songs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for attempt in range(5):
        more = ["trainer.max_steps=100000", "ckpt=last", "trainer.val_check_interval=7"]
        with running(tmp_path, songs, *more) as process:
            wait_for(run / "checkpoints" / "last.ckpt", process)
            began = (run / "checkpoints" / "last.ckpt").stat().st_mtime
            while (run / "checkpoints" / "last.ckpt").stat().st_mtime == began:
                time.sleep(0.02)
            time.sleep(0.3 + 0.11 * attempt)
            process.send_signal(signal.SIGKILL)
        for path in (run / "checkpoints").glob("*.ckpt"):
            read_training(path)
        steps = [int(row["step"]) for row in numbers(run)]
        assert steps == list(range(1, len(steps) + 1))  # neither gap nor fold
