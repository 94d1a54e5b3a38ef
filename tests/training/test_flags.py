"""Flags of training that each work alone work together, pair by pair."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import pytest

from glissando.errors import UserError
from tiny import DIT, Train, numbers, stored

FLAGS = [
    "trainer.precision=bf16-mixed", "trainer.precision=16-mixed",
    "trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=0.5",
    "model.checkpointing=true", "compile=true", "ema=null", "diffusion.mixup.p=0.5",
    "loader.workers=1",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("pair", list(combinations(FLAGS, 2)), ids=" ".join)
def test_any_two(train: Train, tmp_path: Path, vae: Path, pair: tuple[str, str]) -> None:
    """Three steps, of which the last is made by a resumed run."""
    run = [*DIT, f"representation.autoencoder={vae}", "schedule.steps=3", *pair]
    if "trainer.precision=16-mixed" in pair:
        run.append("optimizer.fused=false")
    train(tmp_path, *run, "trainer.max_steps=2")
    train(tmp_path, *run, "trainer.max_steps=3", "ckpt=last")
    losses = [float(row["train/loss"]) for row in numbers(tmp_path)]
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)
    assert stored(tmp_path)["global_step"] == 3


def test_clipping_of_a_fused_optimizer_in_bfloat16(train: Train, tmp_path: Path, vae: Path) -> None:
    """No weight moves further than a step of the clipped gradient takes it, by SGD."""
    run = [*DIT, f"representation.autoencoder={vae}", "trainer.precision=bf16-mixed", "ema=null"]
    run += ["optimizer._target_=torch.optim.SGD", "~optimizer.betas", "optimizer.lr=1"]
    run += ["optimizer.weight_decay=0", "schedule=constant", "schedule.warmup=0"]
    train(tmp_path / "none", *run, "trainer.max_steps=1", "optimizer.lr=0")
    train(tmp_path / "one", *run, "trainer.max_steps=1", "trainer.gradient_clip_val=1e-3")
    before, after = (stored(tmp_path / name)["state_dict"] for name in ("none", "one"))
    moved = sum(float((after[n] - before[n]).square().sum()) for n in after if n.startswith("tr"))
    assert math.sqrt(moved) == pytest.approx(1e-3, rel=1e-2)


def test_a_gradient_scaler_wants_an_optimizer_that_is_not_fused(
    train: Train, tmp_path: Path, vae: Path
) -> None:
    run = [*DIT, f"representation.autoencoder={vae}", "trainer.precision=16-mixed"]
    with pytest.raises(UserError, match=r"set optimizer\.fused=false"):
        train(tmp_path, *run, "trainer.gradient_clip_val=1", "trainer.max_steps=1")
    with pytest.raises(UserError, match=r"fsdp scales no gradients: set trainer\.precision=bf16"):
        train(tmp_path, *run, "trainer=fsdp", "trainer.max_steps=1")
