from __future__ import annotations

import numpy as np
import pytest
import torch

from glissando.errors import UserError
from glissando.metrics.reconstruction import snr
from glissando.representations.stft import STFT

SIZES = [(510, 256, None), (256, 64, None), (400, 100, 320), (17, 5, 12), (8, 1, 7)]


def samples(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("n_fft", "hop", "window"), SIZES)
def test_frames_are_windowed_ffts_around_their_blocks(
    n_fft: int, hop: int, window: int | None
) -> None:
    stft, wave = STFT(n_fft, hop, window), samples(1, 2 * n_fft + 3)
    spectrum = stft(wave)
    width = window or n_fft
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(width) / width)
    left = (n_fft - width) // 2
    hann = np.pad(hann, (left, n_fft - width - left))
    before = (n_fft - hop) // 2
    padded = np.pad(wave[0].numpy(), (before, 2 * n_fft))
    for frame in range(stft.frames(wave.shape[-1])):
        expected = np.fft.rfft(padded[frame * hop : frame * hop + n_fft] * hann)
        np.testing.assert_allclose(spectrum[0, :, frame].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(("n_fft", "hop", "window"), SIZES)
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 1000])
def test_the_inverse_is_exact_to_the_last_sample(
    n_fft: int, hop: int, window: int | None, length: int
) -> None:
    stft, wave = STFT(n_fft, hop, window), samples(2, 3, length)
    spectrum = stft(wave)
    assert spectrum.shape == (2, 3, n_fft // 2 + 1, -(-length // hop))
    again = stft.inverse(spectrum, length)
    assert again.shape == wave.shape
    assert snr(again, wave).min() > 100
    assert (again - wave).abs().max() < 1e-5  # at the ends too


def test_the_inverse_of_what_is_no_spectrum_is_the_nearest_waveform() -> None:
    stft, frames = STFT(12, 4, 10), 5
    length = 4 * frames
    values = samples(2, 7, frames)
    spectrum = torch.complex(*values)
    spectrum[[0, 6]] = spectrum[[0, 6]].real.to(spectrum.dtype)  # as in any real signal
    # The transform as a matrix over full spectra, solved by somebody else.
    columns = torch.stft(
        torch.nn.functional.pad(torch.eye(length, dtype=torch.float64), (4, 4)), 12, 4,
        window=stft.window.double(), center=False, onesided=False, return_complex=True,
    ).flatten(1).T  # fmt: skip
    whole = torch.cat([spectrum, spectrum[1:6].flip(0).conj()]).to(columns.dtype).flatten()
    expected = torch.linalg.lstsq(columns, whole[:, None]).solution[:, 0].real
    torch.testing.assert_close(stft.inverse(spectrum, length).double(), expected, atol=1e-5, rtol=0)


def test_a_sine_peaks_at_a_quarter_of_the_window() -> None:
    stft = STFT(256, 64, 200)
    wave = 0.5 * torch.cos(2 * torch.pi * 16 / 256 * torch.arange(2000.0))
    middle = stft(wave)[:, 10].abs()
    assert middle.argmax() == 16
    assert middle.max() == pytest.approx(0.5 * 200 / 4, rel=1e-3)


def test_half_precision_is_not_entered() -> None:
    stft, wave = STFT(64, 16), samples(1, 300)
    with torch.autocast("cpu", torch.bfloat16):
        spectrum = stft(wave)
        again = stft.inverse(spectrum, 300)
    torch.testing.assert_close(spectrum, stft(wave), atol=0, rtol=0)
    assert snr(again[None], wave[None]) > 100


@pytest.mark.parametrize(("n_fft", "hop", "window", "flag"), [
    (512, 258, None, "representation.hop=258"), (512, 0, None, "representation.hop=0"),
    (512, 256, 400, "representation.hop=256"), (512, 64, 513, "representation.window=513"),
])  # fmt: skip
def test_gaps_between_frames_are_refused(
    n_fft: int, hop: int, window: int | None, flag: str
) -> None:
    with pytest.raises(UserError, match=flag):
        STFT(n_fft, hop, window)
