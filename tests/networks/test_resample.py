from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.signal import firwin, upfirdn
from torch import nn

from glissando.networks.antialias import BETA, TAPS, AntiAliased
from glissando.networks.resample import Resampler, low_pass


@pytest.mark.parametrize(("taps", "cutoff", "beta"), [(12, 0.5, 4.66), (61, 0.3, 10.0)])
def test_the_filter_is_scipys(taps: int, cutoff: float, beta: float) -> None:
    expected = firwin(taps, cutoff, window=("kaiser", beta))
    np.testing.assert_allclose(low_pass(taps, cutoff, beta).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_resampling_is_that_of_scipy(ratio: int) -> None:
    form, wave = Resampler(ratio), torch.randn(2, 3, 500)
    taps = form.taps.flatten().double().numpy()
    up = upfirdn(ratio * taps, wave.double().numpy(), up=ratio)[..., form.side :]
    made = form.up(wave)
    np.testing.assert_allclose(made.numpy(), up[..., : 500 * ratio], atol=1e-5)
    down = upfirdn(taps, made.double().numpy(), down=1)[..., form.side :][..., ::ratio]
    np.testing.assert_allclose(form.down(made).numpy(), down[..., :500], atol=1e-5)


@pytest.mark.parametrize("ratio", [2, 3])
def test_a_tone_keeps_its_pitch_level_and_place(ratio: int) -> None:
    form = Resampler(ratio)
    slow = torch.arange(2000, dtype=torch.float64)
    fast = torch.arange(2000 * ratio, dtype=torch.float64) / ratio
    inside = slice(200, -200)
    for fraction in (0.0, 0.3, 0.9):  # of the Nyquist frequency
        low = torch.cos(math.pi * fraction * slow + 0.3).float()[None, None]
        high = torch.cos(math.pi * fraction * fast + 0.3).float()[None, None]
        wide = slice(200 * ratio, -200 * ratio)
        torch.testing.assert_close(form.up(low)[..., wide], high[..., wide], atol=2e-4, rtol=0)
        torch.testing.assert_close(
            form.down(high)[..., inside], low[..., inside], atol=2e-4, rtol=0
        )
    above = torch.cos(math.pi * 1.02 * fast).float()
    assert form.down(above)[inside].abs().max() < 1e-4


@pytest.mark.parametrize("length", [1, 2, 7, 100])
def test_lengths(length: int) -> None:
    form = Resampler(3)
    assert form.up(torch.randn(length)).shape == (3 * length,)
    assert form.down(torch.randn(2, length)).shape == (2, math.ceil(length / 3))


def test_an_antialiased_line_is_a_line() -> None:
    """Up and down again with nothing between: what is low stays, and constants to the last bit."""
    form = AntiAliased(nn.Identity())
    tone = torch.sin(0.3 * torch.arange(400.0))[None, None].expand(1, 3, -1)
    torch.testing.assert_close(form(tone)[..., 10:-10], tone[..., 10:-10], atol=5e-3, rtol=0)
    torch.testing.assert_close(form(torch.ones(1, 3, 40)), torch.ones(1, 3, 40), atol=5e-3, rtol=0)
    assert TAPS == 12
    assert pytest.approx(0.1102 * (2.285 * 5 * math.pi * 1.2 + 7.95 - 8.7), abs=0.01) == BETA


def test_what_a_nonlinearity_adds_above_the_band_does_not_fold_back() -> None:
    class Square(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.square()

    n, bin_of = 1024, 330  # the square of bin 330 is at 660 of 512, which folds to 364
    tone = torch.cos(2 * math.pi * bin_of * torch.arange(n) / n)[None, None]
    window = torch.hann_window(n)

    def folded(y: torch.Tensor) -> float:
        return float(torch.fft.rfft(y[0, 0] * window).abs()[360:369].max())

    # Twelve taps are soft: so much of it the published filters leave.
    assert folded(AntiAliased(Square())(tone)) < 0.25 * folded(tone.square())
