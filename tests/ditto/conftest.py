from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from glissando.generation import Generator, load
from tiny import DIT, RATE, VAE, Train


@pytest.fixture(scope="session")
def swells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 48 tones of 1.5 s that change in pitch class and loudness, mono."""
    root = tmp_path_factory.mktemp("swells")
    chance = np.random.default_rng(0)
    time = np.arange(int(1.5 * RATE)) / RATE
    for number in range(48):
        pitch = 261.6 * 2 ** (chance.integers(0, 24) / 12)
        loudness = np.interp(time, np.linspace(0, 1.5, 4), chance.uniform(-40, -8, 4))
        wave = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in (1, 2, 3))
        wave = wave + 0.02 * chance.normal(size=len(time))
        soundfile.write(root / f"{number:02d}.wav", wave * 10 ** (loudness / 20), RATE)
        (root / f"{number:02d}.txt").write_text(f"a tone at {pitch:.0f} Hz")
    return root


@pytest.fixture(scope="session")
def trained(train: Train, swells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a tiny model that has learned them."""
    folder = tmp_path_factory.mktemp("trained")
    data = [f"data.root={swells}", f"prepare.shards={folder / 'shards'}"]
    train(folder / "vae", *VAE, *data, "trainer.max_steps=20")
    train(
        folder / "dit", *DIT, *data, f"representation.autoencoder={folder / 'vae'}",
        "trainer.max_steps=250", "optimizer.lr=5e-3", "schedule.warmup=0", "ema=null",
        "loader.batch_size=16",
    )  # fmt: skip
    return folder / "dit"


@pytest.fixture
def model(trained: Path) -> Generator:
    return load(str(trained), "cpu")
