"""Latent mel from the commands: its autoencoder is trained, a denoiser on it, and it sounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from glissando.build import trained
from glissando.build.vocoders import stored_vocoder
from glissando.errors import UserError
from glissando.generation import load
from tiny import DIT, MEL, RATE, Train, numbers, stored

OWN = [each for each in MEL if each.startswith("representation")]


@pytest.fixture(scope="module")
def mel_vae(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mel_vae")
    train(folder, *MEL, "trainer.max_steps=8", "optimizer.lr=3e-3",
          "callbacks.demo.every_n_steps=8", "vae.adversarial_start=6",
          "representation.discriminator.width=4",
          "representation.discriminator.layers=1")  # fmt: skip
    return folder


def test_its_autoencoder_trains(mel_vae: Path) -> None:
    rows = numbers(mel_vae)
    assert float(rows[-1]["train/l1"]) < float(rows[0]["train/l1"])
    assert {"train/kl", "train/adversarial", "train/matching", "val/mel"} <= set(rows[-1])
    assert len(list((mel_vae / "demos").glob("*/000-decoded.wav"))) == 1


def test_the_inner_statistics_are_those_of_the_data_and_travel(mel_vae: Path, songs: Path) -> None:
    codec = trained(str(mel_vae))
    assert codec.measured
    assert (codec.channels, codec.freqs, codec.hop) == (8, 10, 128)
    waves = [torch.tensor(soundfile.read(path)[0]).float() for path in sorted(songs.glob("*.wav"))]
    normal = torch.cat([codec.map_of(wave[None, None]).flatten() for wave in waves])
    assert abs(normal.mean()) < 0.1  # crops of some of the clips, all alike
    assert normal.std() == pytest.approx(1, abs=0.1)
    state = stored(mel_vae)["state_dict"]
    torch.testing.assert_close(state["representation.inner.latent_mean"], codec.inner.latent_mean)


def test_weights_begin_with_the_statistics_they_were_trained_on(
    train: Train, mel_vae: Path, tmp_path: Path
) -> None:
    train(tmp_path, *MEL, "trainer.max_steps=1", f"init={mel_vae}", "seed=3")
    name = "representation.inner.latent_std"
    one, two = (stored(folder)["state_dict"][name] for folder in (mel_vae, tmp_path))
    torch.testing.assert_close(one, two, atol=0, rtol=0)


def test_a_denoiser_trains_on_it_and_sounds(train: Train, mel_vae: Path, tmp_path: Path) -> None:
    vocoder = ["representation.vocoder=griffin_lim",
               "representation.vocoders.griffin_lim.iterations=3"]  # fmt: skip
    train(tmp_path, *DIT, *OWN, *vocoder, f"representation.autoencoder={mel_vae}",
          "trainer.max_steps=2")  # fmt: skip
    model = load(str(tmp_path))
    assert model.representation.inner.vocoder.iterations == 3  # type: ignore[union-attr]
    assert model.representation.fingerprint() == trained(str(mel_vae)).fingerprint()
    clip = model.generate(["a tone"], seconds=0.7, seed=1)[0]
    assert clip.wave.shape == (1, round(0.7 * RATE))
    assert clip.wave.isfinite().all()
    assert clip.wave.std() > 1e-5


def test_it_sounds_by_a_vocoder_trained_for_it(train: Train, mel_vae: Path, tmp_path: Path) -> None:
    vocoder, folder = tmp_path / "vocoder", tmp_path / "dit"
    train(vocoder, *OWN, "model=vocoder", "model.width=16", "model.depth=1", "loader.seconds=0.25",
          "loader.batch_size=2", "loader.workers=0", "reconstruction.sizes=[128]",
          "trainer.max_steps=1")  # fmt: skip
    train(folder, *DIT, *OWN, f"representation.autoencoder={mel_vae}", "trainer.max_steps=1",
          f"representation.vocoder={vocoder}")  # fmt: skip
    model, weights = load(str(folder)), stored_vocoder(str(vocoder), []).weights
    assert model.representation.fingerprint() == trained(str(mel_vae)).fingerprint()
    inner: Any = model.representation.inner
    assert torch.equal(inner.vocoder.network.head.bias, weights["generator.network.head.bias"])
    assert model.generate(["a tone"], seconds=0.5, seed=1)[0].wave.std() > 1e-6


def test_one_of_another_spectrum_is_refused(train: Train, mel_vae: Path, tmp_path: Path) -> None:
    line = r"trained on another representation: set representation\.bands=20 .*\.hop=64, or train"
    with pytest.raises(UserError, match=line):
        train(tmp_path, *DIT, *OWN, "representation.bands=24", "representation.hop=32",
              f"representation.autoencoder={mel_vae}")  # fmt: skip


def test_one_of_waveforms_is_refused(train: Train, vae: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="trained on another representation: set representation=latent_audio"
    ):
        train(tmp_path, *DIT, *OWN, f"representation.autoencoder={vae}")
