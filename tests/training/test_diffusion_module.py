from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glissando.training.precision import cpu_has_bf16, resolve
from tiny import DIT, Train, numbers, stored


def test_validation_is_the_same_whenever_it_is_done(
    train: Train, tmp_path: Path, vae: Path
) -> None:
    """Levels and noise are fixed: only the weights can change its loss."""
    run = [*DIT, f"representation.autoencoder={vae}", "trainer.val_check_interval=1"]
    train(tmp_path / "still", *run, "optimizer.lr=0", "ema=null", "trainer.max_steps=3")
    losses = [row["val/loss"] for row in numbers(tmp_path / "still")]
    assert len(losses) == 3
    assert len(set(losses)) == 1
    trained = [row["train/loss"] for row in numbers(tmp_path / "still")]
    assert len(set(trained)) == 3  # training draws anew


def test_only_the_trained_half_changes(train: Train, tmp_path: Path, vae: Path) -> None:
    train(
        tmp_path, *DIT, f"representation.autoencoder={vae}", "trainer.max_steps=2", "ema=null",
        "schedule.warmup=0",
    )  # fmt: skip
    state, before = stored(tmp_path), stored(vae)
    averaged = {f"representation.network.{n}": t for n, t in before["ema"].items()}
    for name, tensor in state["state_dict"].items():
        if name in averaged:
            torch.testing.assert_close(tensor, averaged[name], atol=0, rtol=0)
    memory = state["optimizer_states"][0]["state"]
    assert len(memory) == sum(name.startswith("trained.") for name in state["state_dict"])


def test_learning_lowers_the_loss(train: Train, tmp_path: Path, vae: Path) -> None:
    train(
        tmp_path, *DIT, f"representation.autoencoder={vae}", "trainer.max_steps=100",
        "optimizer.lr=1e-2", "schedule.warmup=0", "ema=null", "model.patch=[1,1]",
    )  # fmt: skip
    losses = [float(row["train/loss"]) for row in numbers(tmp_path)]
    assert sum(losses[-30:]) < 0.8 * sum(losses[:30])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_precision_that_is_asked_for_is_taken(precision: str) -> None:
    assert resolve(precision, "cpu") == precision


def test_automatic_precision_follows_the_processor() -> None:
    assert resolve("auto", "cpu") == ("bf16-mixed" if cpu_has_bf16() else "32-true")
