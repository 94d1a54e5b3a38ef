"""A loss or a gradient that is not finite: one step is skipped, and many in a row end the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glissando.errors import UserError
from glissando.training.adversary import AdversarialModule
from glissando.training.diffusion import DiffusionModule
from tiny import DIT, GAN, VAE, Train, numbers, stored


class Poison(torch.autograd.Function):
    """The identity, whose gradient is NaN: what a square root at 0 does to a finite loss."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:
        return grad[0] * torch.nan


def poisoned(patch: pytest.MonkeyPatch, steps: set[int], gradient: bool = False) -> None:
    """Training's loss of the steps that are counted ``steps`` (from 0), or its gradient, is NaN."""
    step = DiffusionModule.training_step

    def training_step(self: DiffusionModule, batch: Any, batch_idx: int) -> Tensor:
        loss = step(self, batch, batch_idx)
        if self.global_step not in steps:
            return loss
        return Poison.apply(loss) if gradient else loss * torch.inf  # type: ignore[return-value]

    patch.setattr(DiffusionModule, "training_step", training_step)


def state(folder: Path, name: str = "last.ckpt") -> tuple[Any, Any]:
    found = stored(folder, name)
    return found["state_dict"], found["optimizer_states"][0]["state"]


@pytest.mark.parametrize("gradient", [False, True])
def test_a_bad_step_changes_nothing_and_is_counted(
    train: Train, tmp_path: Path, vae: Path, monkeypatch: pytest.MonkeyPatch, gradient: bool
) -> None:
    poisoned(monkeypatch, {2}, gradient)
    run = [
        *DIT,
        f"representation.autoencoder={vae}",
        "ema=null",
        "callbacks.checkpoint.save_top_k=0",
    ]
    train(tmp_path / "two", *run, "trainer.max_steps=2", "schedule.steps=9")
    # Without the last step, whose checkpoint is not kept; so one more, of which we know the keys.
    train(tmp_path / "more", *run, "trainer.max_steps=4", "schedule.steps=9")
    lines = [json.loads(x) for x in (tmp_path / "more" / "skipped.jsonl").read_text().splitlines()]
    assert [(line["step"], line["rank"], len(line["keys"])) for line in lines] == [(3, 0, 4)]
    assert numbers(tmp_path / "more")[2]["train/skipped"] == "1.0"
    weights, memory = state(tmp_path / "more")
    assert all(weight.isfinite().all() for weight in weights.values() if weight.is_floating_point())
    assert {int(entry["step"]) for entry in memory.values()} == {3}  # four steps, three updates
    assert stored(tmp_path / "more")["skipped"] == 1
    assert not (tmp_path / "two" / "skipped.jsonl").exists()


def test_skipping_leaves_weights_and_the_optimizers_memory_as_they_were(
    train: Train, tmp_path: Path, vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = [*DIT, f"representation.autoencoder={vae}", "ema=null", "schedule.steps=9"]
    run += ["callbacks.checkpoint.every_n_train_steps=1", "callbacks.checkpoint.save_top_k=0"]
    train(tmp_path / "whole", *run, "trainer.max_steps=2")
    with monkeypatch.context() as patch:
        poisoned(patch, {2, 3, 4})
        train(tmp_path / "poisoned", *run, "trainer.max_steps=5")
    # What was last kept is of the step before the bad ones: no checkpoint is made of those.
    for one, two in zip(state(tmp_path / "whole"), state(tmp_path / "poisoned"), strict=True):
        torch.testing.assert_close(one, two, atol=0, rtol=0)
    assert stored(tmp_path / "poisoned")["global_step"] == 2
    assert numbers(tmp_path / "poisoned")[4]["train/skipped"] == "3.0"


def test_many_in_a_row_end_the_run_with_the_last_good_checkpoint(
    train: Train, tmp_path: Path, vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(monkeypatch, {1, *range(3, 100)})
    run = [*DIT, f"representation.autoencoder={vae}", "callbacks.checkpoint.every_n_train_steps=1"]
    with pytest.raises(UserError, match=r"4 steps in a row, up to 7, .*lower optimizer\.lr"):
        train(tmp_path, *run, "callbacks.guard.patience=4", "trainer.max_steps=50")
    assert stored(tmp_path)["global_step"] == 3  # the one after the first bad one
    steps = [json.loads(x)["step"] for x in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 5, 6, 7]


def test_a_gradient_accumulated_from_a_bad_batch_is_dropped_whole(
    train: Train, tmp_path: Path, vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(monkeypatch, {1})
    run = [*DIT, f"representation.autoencoder={vae}", "trainer.accumulate_grad_batches=2"]
    train(tmp_path, *run, "trainer.max_steps=3")
    (line,) = [json.loads(x) for x in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert (line["step"], len(line["keys"])) == (2, 8)
    assert stored(tmp_path)["global_step"] == 3


def test_with_an_adversary_either_side_is_skipped_alone(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = AdversarialModule._train_discriminator

    def poisoned(self: AdversarialModule, real: Tensor, fake: Tensor, batch_idx: int) -> Tensor:
        return judged(self, real * torch.nan if self.global_step == 3 else real, fake, batch_idx)

    monkeypatch.setattr(AdversarialModule, "_train_discriminator", poisoned)
    train(tmp_path, *GAN, "trainer.max_steps=5", "ema=null")
    generator, adversary = stored(tmp_path)["optimizer_states"]
    assert {int(entry["step"]) for entry in generator["state"].values()} == {5}
    assert {int(entry["step"]) for entry in adversary["state"].values()} == {2}  # of 2, 3 and 4
    assert all(
        w.isfinite().all() for n, w in stored(tmp_path)["state_dict"].items() if "discr" in n
    )


def test_weights_that_are_lost_end_the_run(train: Train, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"steps in a row.*lower optimizer\.lr"):
        train(tmp_path, *VAE, "optimizer.lr=1e30", "schedule.warmup=0", "trainer.max_steps=30")
