"""Flags of training that each work alone work together, pair by pair."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import pytest

from tiny import DIT, Train, numbers, stored

FLAGS = [
    "trainer.precision=bf16-mixed", "trainer.accumulate_grad_batches=2",
    "trainer.gradient_clip_val=0.5", "model.checkpointing=true", "compile=true", "ema=null",
    "diffusion.mixup.p=0.5", "loader.workers=1",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("pair", combinations(FLAGS, 2), ids=" ".join)
def test_any_two(train: Train, tmp_path: Path, vae: Path, pair: tuple[str, str]) -> None:
    """Three steps, of which the last is made by a resumed run."""
    run = [*DIT, f"representation.autoencoder={vae}", "schedule.steps=3", *pair]
    train(tmp_path, *run, "trainer.max_steps=2")
    train(tmp_path, *run, "trainer.max_steps=3", "ckpt=last")
    losses = [float(row["train/loss"]) for row in numbers(tmp_path)]
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)
    assert stored(tmp_path)["global_step"] == 3
