"""Every representation that needs no training: trained on and sampled from by the commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from glissando.build import rebuilt
from glissando.datasets.latents import latent_sums
from glissando.errors import UserError
from glissando.generation import load
from glissando.networks.dit import patch_for
from tiny import DIT, RATE, Train, numbers, stored

SMALL = {
    "waveform": ["model.patch=null"],
    "complex_stft": ["representation.n_fft=126", "representation.hop=64", "model.patch=[16,2]"],
    "spectrogram": ["representation.n_fft=128", "representation.hop=32", "model.patch=[16,8]"],
    "mel": ["representation.n_fft=256", "representation.hop=64", "representation.bands=24"],
}


@pytest.mark.parametrize("name", SMALL)
def test_it_trains_samples_and_decodes(name: str, train: Train, tmp_path: Path) -> None:
    train(tmp_path, *DIT, f"representation={name}", *SMALL[name], "trainer.max_steps=3")
    losses = [float(row["train/loss"]) for row in numbers(tmp_path) if "train/loss" in row]
    assert len(losses) == 3
    assert np.isfinite(losses).all()
    assert max(losses) < 4  # unit variance: a velocity of a latent and noise has variance 2
    model = load(str(tmp_path))
    clip = model.generate(["a tone"], seconds=0.7, seed=1)[0]
    assert clip.wave.shape == (1, round(0.7 * RATE))
    assert clip.wave.isfinite().all()
    assert clip.wave.std() > 1e-4


def test_the_statistics_are_those_of_the_training_latents(
    train: Train, songs: Path, tmp_path: Path
) -> None:
    train(tmp_path, *DIT, "representation=waveform", "trainer.max_steps=1")
    state = stored(tmp_path)["state_dict"]
    model = load(str(tmp_path)).representation
    waves = [soundfile.read(path)[0] for path in sorted(songs.glob("*.wav"))]
    mean, std = (
        state["representation.latent_mean"].item(),
        state["representation.latent_std"].item(),
    )
    # Some clips are held out, and all are alike.
    assert std == pytest.approx(np.concatenate(waves).std(), rel=0.05)
    assert abs(mean) < 1e-3
    assert model.normalize(torch.tensor(waves[0]).float()[None, None, None]).std() == pytest.approx(
        1, rel=0.1
    )


def test_sums_are_counted_once_for_these_latents(tmp_path: Path, train: Train) -> None:
    train(tmp_path, *DIT, "representation=waveform", "trainer.max_steps=1")
    mark = load(str(tmp_path)).representation.fingerprint()
    (root,) = Path(stored(tmp_path)["glissando"]["config"]["prepare"]["shards"]).parent.glob(
        f"data/latents/*{mark}"
    )
    values, squares, count = latent_sums(root)
    path = root / "sums.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "values": [7.0]}))
    assert latent_sums(root)[0].tolist() == [7.0]  # the file is believed
    path.write_text(json.dumps({**kept, "fingerprint": "of others", "values": [7.0]}))
    torch.testing.assert_close(latent_sums(root), (values, squares, count))
    path.write_text("{torn")
    torch.testing.assert_close(latent_sums(root), (values, squares, count))


def test_the_recipe_in_a_checkpoint_rebuilds_it(train: Train, tmp_path: Path) -> None:
    train(tmp_path, *DIT, "representation=mel", *SMALL["mel"], "trainer.max_steps=1",
          "representation.vocoders.griffin_lim.iterations=3")  # fmt: skip
    again = rebuilt(stored(tmp_path)["glissando"]["representation"])
    assert again.fingerprint() == load(str(tmp_path)).representation.fingerprint()
    assert again.vocoder.iterations == 3  # type: ignore[union-attr]


def test_an_unknown_vocoder_is_refused(train: Train, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"representation\.vocoder=griffin does not exist.*=griffin_lim"
    ):
        train(tmp_path, *DIT, "representation=mel", "representation.vocoder=griffin")


@pytest.mark.parametrize(("channels", "freqs", "patch"), [
    (128, 1, (1, 2)), (64, 1, (1, 4)), (1, 1, (1, 256)), (2, 1, (1, 128)), (1, 128, (16, 16)),
    (2, 256, (16, 8)), (8, 16, (8, 4)), (1, 3, (3, 85)), (512, 1, (1, 1)),
])  # fmt: skip
def test_a_token_holds_about_as_much_whatever_the_latent(
    channels: int, freqs: int, patch: tuple[int, int]
) -> None:
    assert patch_for(channels, freqs) == patch
