"""Runs as jobs of a real Slurm's: preempted, requeued, and going on exactly."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from glissando.checkpoints.files import read_training
from slurm.conftest import Slurm
from tiny import RATE, SHORT, VAE, Train, numbers

ROOT = Path(__file__).resolve().parents[2]
STEPS = 120


@pytest.fixture
def base(songs: Path, tmp_path: Path) -> list[str]:
    return [
        *SHORT, *VAE, "data=folder", f"data.root={songs}", f"data.sample_rate={RATE}",
        f"prepare.shards={tmp_path / 'shards'}", f"trainer.max_steps={STEPS}",
        f"schedule.steps={STEPS}", "callbacks.checkpoint.every_n_train_steps=1000",
    ]  # fmt: skip


def logged(run: Path) -> int:
    """Steps in a run's metrics.csv."""
    try:
        return len(numbers(run))
    except (FileNotFoundError, KeyError):
        return 0


def wait_for_steps(run: Path, steps: int) -> None:
    deadline = time.monotonic() + 200
    while logged(run) < steps:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("number", ["USR1", "USR2"])
def test_a_preempted_job_is_requeued_and_goes_on_exactly(
    slurm: Slurm, train: Train, base: list[str], tmp_path: Path, number: str
) -> None:
    """sbatch and srun, no run folder and no ckpt= given: the requeued job finds its own."""
    command = " ".join(f"'{word}'" for word in [sys.executable, str(ROOT / "train.py"), *base])
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/bash\nexport PYTHONPATH={ROOT / 'src'} OMP_NUM_THREADS=1\n"
                      f"srun --ntasks=1 {command}\n")  # fmt: skip
    job = slurm("sbatch", "--parsable", "--requeue", "--ntasks=1", f"--chdir={tmp_path}",
                f"--output={tmp_path}/job.log", "--open-mode=append", str(script))  # fmt: skip
    slurm.wait(job, "RUNNING")
    deadline = time.monotonic() + 200
    while not (found := list(tmp_path.glob("outputs/*/*/metrics.csv"))):
        assert time.monotonic() < deadline, (tmp_path / "job.log").read_text()
        time.sleep(0.1)
    run = found[0].parent
    wait_for_steps(run, 1)
    slurm("scancel", f"--signal={number}", job)
    slurm.wait(job, "PENDING")
    reached = int(read_training(run / "checkpoints" / "last.ckpt")["global_step"])
    assert 0 < reached < STEPS
    slurm.start_again(job)
    slurm.wait(job, "COMPLETED")
    assert list(tmp_path.glob("outputs/*/*/metrics.csv")) == [run / "metrics.csv"]
    said = (tmp_path / "job.log").read_text()
    assert "is in the queue again" in said
    assert "this job was requeued" in said
    same_as_unbroken(train, run, tmp_path)


def same_as_unbroken(train: Train, run: Path, tmp_path: Path) -> None:
    train(tmp_path / "whole", *VAE, f"trainer.max_steps={STEPS}", f"schedule.steps={STEPS}")
    assert numbers(run) == numbers(tmp_path / "whole")
    one, two = (read_training(f / "checkpoints" / "last.ckpt") for f in (run, tmp_path / "whole"))
    for key in ("state_dict", "ema", "optimizer_states"):
        torch.testing.assert_close(one[key], two[key], atol=0, rtol=0)


@pytest.mark.slow
def test_a_sweep_is_an_array_of_jobs_that_survive_preemption(
    slurm: Slurm, train: Train, base: list[str], tmp_path: Path
) -> None:
    """launcher=slurm, through submitit: its handler of SIGUSR2 is called once the run has saved."""
    command = [
        sys.executable, str(ROOT / "train.py"), "-m", "launcher=slurm", *base, "seed=0,1",
        f"hydra.sweep.dir={tmp_path / 'sweep'}", "hydra.launcher.gpus_per_node=null",
        "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=10",
    ]  # fmt: skip
    environment = {**slurm.environment, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    sweep = subprocess.Popen(
        command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        run = tmp_path / "sweep" / "0"
        deadline = time.monotonic() + 200
        while not (jobs := slurm("squeue", "-h", "-r", "-o", "%i").splitlines()):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        (first,) = [job for job in jobs if job.endswith("_0")]
        wait_for_steps(run, 1)  # and at once, for a fast machine is soon done with the rest
        slurm("scancel", "--signal=USR2", first)
        slurm.start_again(first)
        slurm.wait(first, "COMPLETED")
        said, _ = sweep.communicate(timeout=300)
        assert sweep.returncode == 0, said
    finally:
        sweep.kill()
        sweep.communicate()
    assert logged(tmp_path / "sweep" / "1") == STEPS
    same_as_unbroken(train, run, tmp_path)


@pytest.mark.slow
def test_outside_of_slurm_the_signal_saves_and_ends(
    songs: Path, base: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, str(ROOT / "train.py"), *base, f"hydra.run.dir={tmp_path / 'run'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    wait_for_steps(tmp_path / "run", 1)
    process.send_signal(10)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 128 + 10
    assert b"go on with the same command and ckpt=" in said
    assert read_training(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] >= 1
