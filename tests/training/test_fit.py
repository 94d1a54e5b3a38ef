"""What a run says before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tiny import DIT, VAE, Train, stored


def test_the_networks_are_summed_up_once_their_data_is_there(
    train: Train, tmp_path: Path, vae: Path, capfd: Any
) -> None:
    train(tmp_path / "dit", *DIT, f"representation.autoencoder={vae}", "trainer.max_steps=1")
    said = capfd.readouterr().err
    weights = {
        name: tensor
        for name, tensor in stored(tmp_path / "dit")["state_dict"].items()
        if name.startswith("trained.denoiser.network.") and torch.is_floating_point(tensor)
    }
    count = sum(tensor.numel() for tensor in weights.values())
    assert ["all", f"{count:,}"] in [line.split() for line in said.splitlines()]
    # A clip of the test's data is 1.5 s at 8 kHz: 188 frames of 64 samples, and one for the lap.
    assert "one clip of 8 x 1 x 189 forward: " in said
    train(tmp_path / "vae", *VAE, "trainer.max_steps=1")
    assert "one crop of 2000 samples: " in capfd.readouterr().err
    train(tmp_path / "quiet", *VAE, "trainer.max_steps=1", "callbacks.summary=false")
    assert "one crop" not in capfd.readouterr().err
