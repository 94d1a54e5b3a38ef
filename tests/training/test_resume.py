"""Runs that are broken off and resumed equal unbroken ones, to the bit."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from glissando.errors import UserError
from glissando.training.diffusion import DiffusionModule
from tiny import DIT, GAN, MEL, VAE, Train, numbers, stored

PATCH = ["representation.discriminator.width=4", "representation.discriminator.layers=1"]


def assert_same(first: Path, second: Path) -> None:
    """Every number of every step, the weights, their averages and the optimizer's memory."""
    assert numbers(first) == numbers(second)
    one, two = stored(first), stored(second)
    for key in ("state_dict", "ema", "optimizer_states", "consumed", "ema_updates"):
        torch.testing.assert_close(one[key], two[key], atol=0, rtol=0)


@pytest.mark.parametrize(("stage", "workers"), [
    ("vae", 1), ("gan", 0), ("mel", 0), ("dit", 1),
    pytest.param("vae", 0, marks=pytest.mark.slow), pytest.param("gan", 1, marks=pytest.mark.slow),
    pytest.param("dit", 0, marks=pytest.mark.slow),
])  # fmt: skip
def test_half_and_half_equals_the_whole(
    train: Train, tmp_path: Path, vae: Path, stage: str, workers: int
) -> None:
    own = {
        "vae": VAE, "gan": GAN, "mel": [*MEL, "vae.adversarial_start=4", *PATCH],
        "dit": [*DIT, f"representation.autoencoder={vae}", "loader.cache=false"],
    }[stage]  # fmt: skip
    run = [*own, f"loader.workers={workers}", "trainer.val_check_interval=3", "schedule.steps=12"]
    train(tmp_path / "whole", *run, "trainer.max_steps=12")
    # At 6 a validation falls due, at 10 none: Lightning resumes these differently.
    for steps in (6, 10, 12):
        train(tmp_path / "parts", *run, f"trainer.max_steps={steps}", "ckpt=last")
    whole, parts = numbers(tmp_path / "whole"), numbers(tmp_path / "parts")
    assert [row["step"] for row in parts] == [str(step) for step in range(1, 13)]
    # The last step of a run is validated besides.
    parts[9] = {name: value for name, value in parts[9].items() if not name.startswith("val/")}
    assert parts == whole
    one, two = stored(tmp_path / "whole"), stored(tmp_path / "parts")
    for key in ("state_dict", "ema", "optimizer_states", "consumed", "ema_updates"):
        torch.testing.assert_close(one[key], two[key], atol=0, rtol=0)


def test_accumulated_gradients_and_the_best_checkpoint(
    train: Train, tmp_path: Path, vae: Path
) -> None:
    run = [*VAE, "vae.accumulate=2", "trainer.val_check_interval=2", "trainer.max_steps=8"]
    train(tmp_path / "whole", *run, "callbacks.checkpoint.save_top_k=3")
    best = min((tmp_path / "whole" / "checkpoints").glob("best-*.ckpt"))
    assert stored(tmp_path / "whole", best.name)["global_step"] < 8
    assert stored(tmp_path / "whole")["consumed"] == 16
    train(tmp_path / "again", *run, f"ckpt={best}")
    one, two = stored(tmp_path / "whole"), stored(tmp_path / "again")
    torch.testing.assert_close(one["state_dict"], two["state_dict"], atol=0, rtol=0)


@pytest.mark.parametrize("stage", [pytest.param("dit", marks=pytest.mark.slow), "gan"])
def test_a_gradient_scaler_goes_on_as_it_was(
    train: Train, tmp_path: Path, vae: Path, stage: str
) -> None:
    """In float16 on a processor; the adversary's losses overflow at first and lower the scale."""
    own = {"dit": [*DIT, f"representation.autoencoder={vae}"], "gan": [*GAN, "vae.clip=0"]}[stage]
    run = [*own, "trainer.precision=16-mixed", "schedule.steps=8"]
    train(tmp_path / "whole", *run, "trainer.max_steps=8")
    for steps in (3, 8):
        train(tmp_path / "parts", *run, f"trainer.max_steps={steps}", "ckpt=last")
    one, two = stored(tmp_path / "whole"), stored(tmp_path / "parts")
    scaler = one["MixedPrecision"]
    assert scaler == two["MixedPrecision"]
    assert 0 < scaler["_growth_tracker"] <= 8
    assert (scaler["scale"] < 65536) == (stage == "gan")
    for key in ("state_dict", "ema", "optimizer_states"):
        torch.testing.assert_close(one[key], two[key], atol=0, rtol=0)


def test_ctrl_c_saves_between_two_steps(
    train: Train, tmp_path: Path, vae: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    run = [*DIT, f"representation.autoencoder={vae}", "trainer.val_check_interval=2"]
    run += ["trainer.max_steps=6"]
    train(tmp_path / "whole", *run)
    step = DiffusionModule.training_step

    def interrupted(self: DiffusionModule, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 3:  # the fourth step, after which a validation falls due
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, batch_idx)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(DiffusionModule, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "parts", *run)
    assert signal.getsignal(signal.SIGINT) is before
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    assert f"saved at 4; go on with the same command and ckpt={last}" in capfd.readouterr().err
    assert stored(tmp_path / "parts")["global_step"] == 4
    assert "val/loss" in numbers(tmp_path / "parts")[3]
    train(tmp_path / "parts", *run, "ckpt=last")
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_second_ctrl_c_stops_at_once(
    train: Train, tmp_path: Path, vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient(self: DiffusionModule, batch: Any, batch_idx: int) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    monkeypatch.setattr(DiffusionModule, "training_step", impatient)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, *DIT, f"representation.autoencoder={vae}", "trainer.max_steps=6")
    assert not list(tmp_path.glob("**/*.ckpt"))


def test_a_finished_run_has_nothing_left_to_do(train: Train, tmp_path: Path) -> None:
    run = [*VAE, "trainer.max_steps=2"]
    train(tmp_path, *run)
    before = numbers(tmp_path)
    train(tmp_path, *run, "ckpt=last")
    assert numbers(tmp_path) == before
    assert stored(tmp_path)["global_step"] == 2


def test_last_of_an_empty_folder_starts_afresh_and_says_so(
    train: Train, tmp_path: Path, capfd: Any
) -> None:
    train(tmp_path, *VAE, "trainer.max_steps=1", "ckpt=last")
    assert "nothing to resume" in capfd.readouterr().err
    assert stored(tmp_path)["global_step"] == 1


def test_a_missing_checkpoint_names_the_nearest(
    train: Train, tmp_path: Path, vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = vae / "checkpoints" / "lst.ckpt"
    with pytest.raises(UserError, match=r"lst\.ckpt does not exist; nearest: .*last\.ckpt"):
        train(tmp_path, *VAE, f"ckpt={name}")


def test_init_takes_weights_and_nothing_else(train: Train, tmp_path: Path, vae: Path) -> None:
    train(tmp_path, *VAE, f"init={vae}", "trainer.max_steps=1", "optimizer.lr=0", "ema=null")
    given, taken = stored(vae), stored(tmp_path)
    assert taken["global_step"] == 1
    for name, averaged in given["ema"].items():
        torch.testing.assert_close(taken["state_dict"][f"representation.network.{name}"], averaged)


def test_init_with_or_without_an_adversary(train: Train, tmp_path: Path, vae: Path) -> None:
    train(tmp_path / "gan", *GAN, f"init={vae}", "trainer.max_steps=3")
    train(tmp_path / "more", *GAN, f"init={tmp_path / 'gan'}", "trainer.max_steps=3")
    train(tmp_path / "without", *VAE, f"init={tmp_path / 'gan'}", "trainer.max_steps=1")
    assert not any(name.startswith("discr") for name in stored(tmp_path / "without")["state_dict"])


@pytest.mark.parametrize("misfit", ["model.encoder_width=24", "model.encoder_depth=2"])
def test_init_that_does_not_fit(train: Train, tmp_path: Path, vae: Path, misfit: str) -> None:
    with pytest.raises(UserError, match=r"init=.* does not fit model=vae: \d+ weights"):
        train(tmp_path, *VAE, misfit, f"init={vae}", "trainer.max_steps=1")


@pytest.mark.parametrize(("other", "what"), [
    (GAN, r"weights missing, e\.g\. discriminator"),
    ([*VAE, "model.decoder_width=24"], "of another shape"),
])  # fmt: skip
def test_resuming_what_does_not_fit(
    train: Train, tmp_path: Path, vae: Path, other: list[str], what: str
) -> None:
    with pytest.raises(UserError, match=rf"init= takes its weights alone\): \d+ .*{what}"):
        train(tmp_path, *other, f"ckpt={vae}", "trainer.max_steps=6")


def damage(path: Path) -> None:
    """One bit of one weight, which torch would read without a word."""
    content = bytearray(path.read_bytes())
    at = content.find(b"\x00" * 64, len(content) // 2)
    content[at + 200] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    train: Train, tmp_path: Path, capfd: Any
) -> None:
    run = [*VAE, "callbacks.checkpoint.every_n_train_steps=2", "callbacks.checkpoint.save_top_k=0"]
    train(tmp_path / "whole", *run, "trainer.max_steps=6", "trainer.val_check_interval=3")
    run += ["schedule.steps=6"]
    train(tmp_path / "parts", *run, "trainer.max_steps=4", "trainer.val_check_interval=3")
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    previous = last.with_name("previous.ckpt")
    damage(last)
    capfd.readouterr()
    train(
        tmp_path / "parts", *run, "trainer.max_steps=6", "trainer.val_check_interval=3", "ckpt=last"
    )
    said = capfd.readouterr().err
    assert f"{last} is damaged" in said
    assert f"resuming {previous}" in said
    assert_same(tmp_path / "whole", tmp_path / "parts")

    torn = last.read_bytes()[:-1000]
    last.write_bytes(torn)
    with pytest.raises(
        UserError, match=r"last\.ckpt is damaged .*; ckpt=.*previous\.ckpt is the one"
    ):
        train(tmp_path / "parts", *run, "trainer.max_steps=7", f"ckpt={last}")
    previous.write_bytes(torn)
    with pytest.raises(UserError, match=r"there is no other: init= a best"):
        train(tmp_path / "parts", *run, "trainer.max_steps=7", "ckpt=last")
