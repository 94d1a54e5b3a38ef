"""A run small enough for a test, as overrides of ``train.py``, and what it leaves."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

RATE = 8000
VAE = [
    "model=vae", "model.bits=0", "model.channels=8", "model.hop=64", "model.encoder_width=16",
    "model.encoder_depth=1", "model.decoder_width=16", "model.decoder_depth=1",
    "loader.seconds=0.25", "loader.batch_size=4", "loader.workers=0",
]  # fmt: skip
GAN = [*VAE, "vae.adversarial_start=2", "discriminator.sizes=[128]", "discriminator.width=4"]
MEL = [  # an autoencoder of mel spectrograms
    *VAE, "representation=latent_mel", "representation.n_fft=256",
    "representation.hop=64", "representation.bands=20",
    "representation.vocoders.griffin_lim.iterations=4", "representation.network.width=4",
    "representation.network.multiples=[1,2]", "representation.network.factors=[[2,2]]",
]  # fmt: skip
VOCODER = [
    "model=vocoder", "representation.n_fft=256", "representation.hop=64", "representation.bands=24",
    "model.width=16", "model.depth=1", "loader.seconds=0.25", "loader.batch_size=4",
    "loader.workers=0", "gan.adversarial_start=2", "discriminator.parts.periods.width=1",
    "discriminator.parts.resolutions.width=2", "discriminator.parts.resolutions.sizes=[128]",
    "reconstruction.sizes=[256,64]",
]  # fmt: skip
DIT = [
    "model=dit_tiny", "model.width=32", "model.depth=1", "model.heads=2", "text_encoder=hash",
    "text_encoder.dim=16", "loader.batch_size=4",
]  # fmt: skip
UNET = [
    "model=unet_tiny", "model.expansion=2", "text_encoder=hash", "text_encoder.dim=16",
    "conditioning=[adaln_zero,prefix,cross_attention]", "loader.batch_size=4",
]  # fmt: skip
SHORT = [
    "trainer=cpu", "trainer.precision=32-true", "trainer.log_every_n_steps=1", "logger=csv",
    "callbacks.demo.every_n_steps=0", "callbacks.progress=false", "prepare.workers=1",
]  # fmt: skip

Train = Callable[..., "float | None"]


class Said(NamedTuple):
    """What a command line left: its exit status, stdout and stderr."""

    status: int
    out: str
    err: str


Command = Callable[..., Said]


def refused(said: Said, line: str) -> None:
    """It ended with status 1 and, after what it had said of its progress, one line like this."""
    assert said.status == 1
    *before, last = said.err.splitlines()
    assert last.startswith(f"error: {line}"), said.err
    assert not any("Traceback" in each or "error" in each for each in before), said.err


def rows(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv."""
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(folder: Path) -> list[dict[str, str]]:
    """metrics.csv without how fast it went."""
    return [
        {name: value for name, value in row.items() if value and not name.startswith("speed/")}
        for row in rows(folder)
    ]


def stored(folder: Path, name: str = "last.ckpt") -> dict[str, Any]:
    """A run's checkpoint."""
    return torch.load(folder / "checkpoints" / name, weights_only=True)
