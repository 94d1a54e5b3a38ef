"""What a job of Slurm's does when its time is up: it is put in the queue again and goes on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from glissando.training.last import Preempted
from glissando.training.progress import say


def environment() -> list[SLURMEnvironment]:
    """Lightning's plugin for a job of Slurm's, without its own requeueing; nothing elsewhere.

    Lightning's listens to one signal of two, and leaves a second kind of checkpoint behind that a
    later run in the same folder picks up.
    """
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def requeued(last: Path) -> bool:
    """Was this job started before, and has it left a checkpoint?"""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0 and last.exists()


def make_way(preempted: Preempted) -> None:
    """Puts the job in the queue again, where it is one; called once the run has saved.

    submitit does that itself when its handler is called; else ``scontrol requeue`` does. Outside of
    Slurm nothing happens. The job is not requeued twice: all but its first process leave it.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if callable(preempted.before):
        preempted.before(preempted.number, None)
    elif job is not None and os.environ.get("SLURM_PROCID", "0") == "0":
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        if done.returncode:
            say(f"job {job} could not be put in the queue again: {done.stderr.strip()}")
        else:
            say(f"job {job} is in the queue again and will go on from here")
