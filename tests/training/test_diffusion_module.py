from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from glissando.condition import Condition
from glissando.diffusion.denoiser import Denoiser
from glissando.errors import UserError
from glissando.text_encoders import Hash, Text
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


def test_no_step_encodes_text(
    train: Train, tmp_path: Path, vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every caption is encoded once, before the first step; by the next run none is."""
    encoded: list[str] = []
    at_step: list[int] = []
    encode, loss = Hash.encode, Denoiser.loss

    def counted(self: Hash, captions: list[str]) -> Text:
        encoded.extend(captions)
        return encode(self, captions)

    def seen(self: Denoiser, *args: Any, **options: Any) -> torch.Tensor:
        at_step.append(len(encoded))
        return loss(self, *args, **options)

    monkeypatch.setattr(Hash, "encode", counted)
    monkeypatch.setattr(Denoiser, "loss", seen)
    run = [
        *DIT, "conditioning=[adaln_zero,cross_attention]", "trainer.max_steps=4",
        f"representation.autoencoder={vae}", f"conditioner.text.cache={tmp_path / 'text'}",
        "trainer.limit_val_batches=0",
    ]  # fmt: skip
    train(tmp_path / "first", *run)
    assert at_step == [12] * 4  # the captions of the tones
    assert len(set(encoded)) == 12
    train(tmp_path / "second", *run)
    assert at_step == [12] * 8


@pytest.mark.parametrize(
    ("overrides", "lost"),
    [
        (["diffusion.dropout=1"], {"text_pooled", "seconds_total"}),
        (["diffusion.dropout=0"], set()),
        (["diffusion.dropout=0", "+diffusion.dropout_alone.text=1"], {"text_pooled"}),
    ],
)
def test_training_drops_conditions_jointly_or_alone(
    train: Train, tmp_path: Path, vae: Path, monkeypatch: pytest.MonkeyPatch,
    overrides: list[str], lost: set[str],
) -> None:  # fmt: skip
    seen: list[Condition] = []
    real = Denoiser.loss

    def loss(
        self: Denoiser, x_0: torch.Tensor, eps: torch.Tensor, t: torch.Tensor,
        condition: Condition, mask: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        seen.append(condition)
        return real(self, x_0, eps, t, condition, mask)

    monkeypatch.setattr(Denoiser, "loss", loss)
    train(
        tmp_path, *DIT, f"representation.autoencoder={vae}", "trainer.max_steps=1",
        "trainer.limit_val_batches=0", "conditioner.seconds_total.unconditional=zero", *overrides,
    )  # fmt: skip
    (condition,) = seen
    assert set(condition) == {"text_pooled", "seconds_start", "seconds_total"}
    for name, entry in condition.items():  # seconds_start is kept
        assert entry.value.any(dim=1).tolist() == [name not in lost] * 4, name


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        ("text=2", "dropout_alone.text must be between 0 and 1, not 2"),
        ("words=0.5", r"dropout_alone.words: the conditioners are \['text', 'seconds_start'"),
        ("seconds_start=0.5", r"conditioner.seconds_start.unconditional=kept keeps it"),
    ],
)
def test_dropout_without_an_effect_is_refused(
    train: Train, tmp_path: Path, vae: Path, wanted: str, line: str
) -> None:
    more = [f"representation.autoencoder={vae}", f"+diffusion.dropout_alone.{wanted}"]
    with pytest.raises(UserError, match=line):
        train(tmp_path, *DIT, *more)


def test_a_caption_is_encoded_once_ever(
    train: Train, tmp_path: Path, vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = Hash.encode
    monkeypatch.setattr(Hash, "encode", lambda self, c: seen.extend(c) or real(self, c))
    run = [*DIT, f"representation.autoencoder={vae}", "trainer.max_steps=6",
           f"conditioner.text.cache={tmp_path / 'cache'}"]  # fmt: skip
    train(tmp_path / "one", *run)  # two epochs
    assert len(seen) == len(set(seen)) == 12
    seen.clear()
    train(tmp_path / "two", *run)
    assert not seen


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_precision_that_is_asked_for_is_taken(precision: str) -> None:
    assert resolve(precision, "cpu") == precision


def test_automatic_precision_follows_the_processor() -> None:
    assert resolve("auto", "cpu") == ("bf16-mixed" if cpu_has_bf16() else "32-true")
