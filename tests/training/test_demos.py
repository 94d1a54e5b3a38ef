from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from glissando.training.demos import SampleDemo
from tiny import DIT, Train, numbers, stored


def test_the_demo_plays_the_averaged_weights(
    train: Train, tmp_path: Path, vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, dict[str, torch.Tensor]] = {}

    def show(self: SampleDemo, trainer: Any, pl_module: Any, folder: Path) -> None:
        weights = pl_module.trained.named_parameters()
        shown[folder.name] = {name: p.detach().clone() for name, p in weights}

    monkeypatch.setattr(SampleDemo, "show", show)
    train(
        tmp_path, *DIT, f"representation.autoencoder={vae}", "trainer.max_steps=5",
        "trainer.val_check_interval=2", "callbacks.demo.every_n_steps=4", "ema=0.5",
    )  # fmt: skip
    assert list(shown) == ["step-0000004", "step-0000005"]  # every 4, and at the end
    averaged = stored(tmp_path)["ema"]
    for name, tensor in shown["step-0000005"].items():
        torch.testing.assert_close(tensor, averaged[name], atol=0, rtol=0)


def test_demos_change_nothing_in_training(train: Train, tmp_path: Path, vae: Path) -> None:
    run = [*DIT, f"representation.autoencoder={vae}", "trainer.max_steps=4",
           "trainer.val_check_interval=2", "callbacks.demo.seconds=0.2",
           "callbacks.demo.prompts=[x]"]  # fmt: skip
    train(tmp_path / "without", *run)
    train(tmp_path / "with", *run, "callbacks.demo.every_n_steps=2")
    assert numbers(tmp_path / "with") == numbers(tmp_path / "without")
    folder = tmp_path / "with" / "demos" / "step-0000004"
    assert {path.suffix for path in folder.iterdir()} >= {".wav", ".png", ".html"}
