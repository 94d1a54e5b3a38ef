"""Changing the rate of a waveform by a whole number, with one FIR filter each way."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glissando.networks.precision import full_precision


def low_pass(taps: int, cutoff: float, beta: float) -> Tensor:
    """Taps (taps,) of a windowed sinc that sums to 1.

    Args:
        cutoff: as a fraction of the Nyquist frequency, where the gain is one half.
        beta: of the Kaiser window; 4.7 keeps the stop band 51 dB down, 10 keeps it 100 dB down.
    """
    time = torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2
    window = torch.kaiser_window(taps, periodic=False, beta=beta, dtype=torch.float64)
    filtered = torch.sinc(cutoff * time) * window
    return (filtered / filtered.sum()).float()


class Resampler(nn.Module):
    """Between a rate and ``ratio`` times it: (..., L) <-> (..., L ratio).

    Sample k of the lower rate lies at sample k ratio of the higher one, and silence is around the
    clip. The filter is flat to 92% of the lower rate's Nyquist frequency and 100 dB down at it, so
    that ``down(up(x))`` is x where x has nothing above these 92%.

    Args:
        ratio: whole number, at least 2. zeros: length of the filter to either side, in samples of
            the lower rate.
    """

    taps: Tensor

    def __init__(self, ratio: int, zeros: int = 80) -> None:
        super().__init__()
        self.ratio, self.side = ratio, zeros * ratio
        taps = low_pass(2 * self.side + 1, cutoff=0.96 / ratio, beta=10.0)
        self.register_buffer("taps", taps[None, None], persistent=False)

    def up(self, wave: Tensor) -> Tensor:
        """(..., L) -> (..., L ratio); float32, also under autocast."""
        with full_precision(wave):
            rows = wave.float().reshape(-1, 1, wave.shape[-1])
            out = F.conv_transpose1d(
                rows, self.ratio * self.taps, stride=self.ratio, padding=self.side,
                output_padding=self.ratio - 1,
            )  # fmt: skip
        return out.reshape(*wave.shape[:-1], -1)

    def down(self, wave: Tensor) -> Tensor:
        """(..., L) -> (..., ceil(L / ratio)); float32, also under autocast."""
        with full_precision(wave):
            rows = wave.float().reshape(-1, 1, wave.shape[-1])
            out = F.conv1d(rows, self.taps, stride=self.ratio, padding=self.side)
        return out.reshape(*wave.shape[:-1], -1)
