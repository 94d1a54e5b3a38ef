from __future__ import annotations

from typing import Any

import librosa
import numpy as np
import pytest
import torch
from forms import RATE, spectrogram

from glissando.errors import UserError

WAVE = 0.1 * torch.randn(1, 2, 3000, generator=torch.Generator().manual_seed(0))


def magnitudes(bands: int | None) -> np.ndarray:
    """librosa's, on frames of 256 around blocks of 64."""
    padded = np.pad(WAVE[0].numpy(), ((0, 0), (96, 96 + 64 - 3000 % 64)))
    settings: dict[str, Any] = {"n_fft": 256, "hop_length": 64, "center": False}
    if bands is None:
        return np.abs(librosa.stft(padded, **settings))
    return librosa.feature.melspectrogram(y=padded, sr=RATE, n_mels=bands, power=1, **settings)


@pytest.mark.parametrize("bands", [None, 20])
def test_values_are_those_of_librosa(bands: int | None) -> None:
    expected = magnitudes(bands)
    for power, floor in ((None, 1e-5), (None, 0.05), (0.25, 1e-5)):
        z = spectrogram(2, bands=bands, power=power, floor=floor).encode(WAVE)[0]
        floored = np.maximum(expected, floor)
        compressed = np.log(floored) if power is None else floored**power
        np.testing.assert_allclose(z.numpy(), compressed, atol=2e-3)


@pytest.mark.parametrize("power", [None, 0.25, 1.0])
def test_the_vocoder_gets_the_magnitudes_back(power: float | None) -> None:
    form = spectrogram(2, power=power, floor=1e-6)
    given: list[torch.Tensor] = []
    form.vocoder.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    form.decode(form.encode(WAVE), 3000)
    np.testing.assert_allclose(given[0][0].numpy(), magnitudes(None), rtol=1e-3, atol=1e-4)


def test_values_below_zero_are_silence_where_they_are_powers() -> None:
    form = spectrogram(1, power=0.25)
    assert form.decode(torch.full((1, 1, form.freqs, 9), -3.0), 500).abs().max() == 0


@pytest.mark.parametrize(("settings", "line"), [
    ({"bands": 20, "f_max": 5000.0}, "representation.f_min, representation.f_max: need 0 <="),
    ({"floor": 0.0}, "representation.floor must be above 0"),
    ({"power": -1.0}, "representation.power must be above 0"),
    ({"hop": 200}, "representation.hop=200 leaves gaps"),
])  # fmt: skip
def test_wrong_settings_are_refused(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        spectrogram(1, **settings)


CHANGES: list[dict[str, Any]] = [
    {"bands": 21}, {"hop": 32}, {"n_fft": 300}, {"window": 200}, {"f_min": 50.0},
    {"f_max": 3000.0}, {"power": 0.5}, {"floor": 1e-4},
]  # fmt: skip


def test_every_setting_that_changes_latents_changes_the_fingerprint() -> None:
    plain = spectrogram(1, bands=20)
    marks = {spectrogram(1, **{"bands": 20, **change}).fingerprint() for change in CHANGES}
    assert len({plain.fingerprint(), *marks}) == len(CHANGES) + 1


def test_the_vocoder_does_not() -> None:
    plain, other = spectrogram(1), spectrogram(1)
    other.vocoder.iterations = 9
    assert plain.fingerprint() == other.fingerprint()
