from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from glissando.errors import UserError
from glissando.representations.spectrum import Spectrum
from glissando.vocoders.griffin_lim import GriffinLim

RATE, N_FFT, HOP = 8000, 256, 64


def chord(length: int) -> torch.Tensor:
    time = torch.arange(length) / RATE
    tones = [torch.sin(2 * torch.pi * pitch * time) for pitch in (220, 277.2, 329.6, 1480)]
    return (0.2 * torch.stack(tones).sum(0) * torch.exp(-2 * (time % 0.3)))[None, None]


@pytest.mark.parametrize("momentum", [0.0, 0.6, 0.99])
def test_it_is_librosas_from_the_same_start(momentum: float) -> None:
    """Their clips begin elsewhere in a frame: compared where 4 iterations cannot know of that."""
    spectrum, length = Spectrum(RATE, N_FFT, HOP), 80 * HOP
    vocoder = GriffinLim(spectrum, 4, momentum)
    vocoder.phase.zero_()
    # Of tones alone the phases between them are rounding errors, which iterations make larger.
    noise = 0.05 * torch.randn(1, 1, length, generator=torch.Generator().manual_seed(0))
    magnitude = spectrum(chord(length) + noise)
    found = vocoder(magnitude, length)[0, 0].numpy()
    expected = librosa.griffinlim(
        magnitude[0, 0].numpy(), n_iter=4, hop_length=HOP, momentum=momentum, init=None
    )
    shift = N_FFT // 2 - spectrum.stft.before
    middle = slice(20 * HOP, 60 * HOP)
    np.testing.assert_allclose(found[shift:][middle], expected[middle], atol=1e-5)


def inconsistency(vocoder: GriffinLim, magnitude: torch.Tensor, length: int) -> float:
    """How far the magnitudes of what it returns are from those that it was given."""
    again = vocoder.spectrum(vocoder(magnitude, length))
    return float((again - magnitude).norm() / magnitude.norm())


def test_iterations_and_momentum_bring_it_nearer() -> None:
    spectrum, length = Spectrum(RATE, N_FFT, HOP), 6000
    magnitude = spectrum(chord(length))
    errors = [
        inconsistency(GriffinLim(spectrum, iterations, momentum), magnitude, length)
        for iterations, momentum in ((1, 0.0), (8, 0.0), (32, 0.0), (32, 0.99))
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1


def test_a_frame_that_is_not_there_yet_is_not_needed() -> None:
    vocoder = GriffinLim(Spectrum(RATE, N_FFT, HOP, bands=30), 3)
    magnitude = vocoder.spectrum(chord(6400))
    whole = vocoder(magnitude, 6400)
    assert vocoder(magnitude, 6333).shape[-1] == 6333
    torch.testing.assert_close(vocoder(magnitude, 6333), whole[..., :6333], atol=0, rtol=0)


def test_the_same_magnitudes_give_the_same_sound() -> None:
    first, second = (GriffinLim(Spectrum(RATE, N_FFT, HOP, bands=30), 3) for _ in range(2))
    magnitude = first.spectrum(chord(3000))
    torch.manual_seed(1)
    one = first(magnitude, 3000)
    torch.manual_seed(2)
    torch.testing.assert_close(second(magnitude, 3000), one, atol=0, rtol=0)


def test_silence_stays_silent() -> None:
    vocoder = GriffinLim(Spectrum(RATE, N_FFT, HOP, bands=30), 3)
    assert vocoder(torch.zeros(1, 2, 30, 10), 600).abs().max() == 0


@pytest.mark.parametrize(("iterations", "momentum", "line"), [
    (0, 0.9, "griffin_lim.iterations must be at least 1"),
    (8, 1.1, "griffin_lim.momentum must be from 0 to 1"),
])  # fmt: skip
def test_wrong_settings_are_refused(iterations: int, momentum: float, line: str) -> None:
    with pytest.raises(UserError, match=line):
        GriffinLim(Spectrum(RATE, N_FFT, HOP), iterations, momentum)
