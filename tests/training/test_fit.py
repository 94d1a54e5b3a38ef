"""What a run says before it begins."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from glissando.build import trained
from glissando.errors import UserError
from glissando.networks.summary import codec_summary
from tiny import DIT, UNET, VAE, Train, rows, stored


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


def test_operations_a_second_are_those_of_the_network(train: Train, tmp_path: Path) -> None:
    """Three forward passes of a step's clips, over the time of the step."""
    train(tmp_path, *VAE, "trainer.max_steps=3", "vae.accumulate=2", "callbacks.peak_tflops=1e-3")
    counted = _forward(tmp_path)
    for row in rows(tmp_path)[1:]:
        clips = float(row["speed/clips_per_second"])
        assert clips == pytest.approx(float(row["speed/steps_per_second"]) * 4 * 2)
        tflops = float(row["speed/tflops"])
        assert tflops == pytest.approx(3 * counted * clips / 1e12)
        assert float(row["speed/mfu"]) == pytest.approx(tflops / 1e-3)


def _forward(folder: Path) -> int:
    """Operations of a crop of 0.25 s at 8 kHz, counted anew."""
    network = trained(str(folder)).network
    return codec_summary(network, 1, 2000, 2000).forward


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler")
@pytest.mark.parametrize("model", [[*DIT, "model.depth=2"], UNET])
def test_compiled_blocks_learn_the_same(
    train: Train, tmp_path: Path, vae: Path, model: list[str]
) -> None:
    run = [*model, f"representation.autoencoder={vae}", "trainer.max_steps=4"]
    train(tmp_path / "eager", *run)
    train(tmp_path / "compiled", *run, "compile=true")
    for one, two in zip(rows(tmp_path / "eager"), rows(tmp_path / "compiled"), strict=True):
        assert float(one["train/loss"]) == pytest.approx(float(two["train/loss"]), rel=1e-4)
    first, second = stored(tmp_path / "eager"), stored(tmp_path / "compiled")
    assert first["state_dict"].keys() == second["state_dict"].keys()


def test_what_has_no_blocks_is_not_compiled(train: Train, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="compile=true compiles the blocks of a DiT or U-Net"):
        train(tmp_path, *VAE, "compile=true", "trainer.max_steps=1")
