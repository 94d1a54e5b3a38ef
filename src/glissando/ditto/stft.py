"""Spectra whose gradient is finite everywhere and not zero in what is merely faint."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from glissando.mel import mel_filters

SILENCE = 1e-8
"""Power that is added before a logarithm: 80 dB below full scale."""


def size(sample_rate: int, hz: float) -> int:
    """The power of two for which bins are nearest ``hz`` apart, at least 16."""
    return 2 ** max(4, round(math.log2(sample_rate / hz)))


def power(wave: Tensor, n_fft: int, hop: int) -> Tensor:
    """Wave (B, A, L) -> (B, A, n_fft // 2 + 1, L // hop + 1), frame k centred on sample k hop.

    A sine of amplitude 1 peaks at 1. Hann windows, zeros around the clip. The squares of real and
    imaginary part, which are smooth at 0, where the magnitude is not.
    """
    window = torch.hann_window(n_fft, dtype=wave.dtype, device=wave.device) * (4 / n_fft)
    spectrum = torch.stft(
        wave.flatten(0, 1), n_fft, hop, window=window, pad_mode="constant", return_complex=True
    )
    return (spectrum.real.square() + spectrum.imag.square()).unflatten(0, wave.shape[:2])


class LogMel(nn.Module):
    """A mel spectrogram in dB: bins of about 20 Hz, triangular filters with a peak of 1.

    ``SILENCE`` is added to the power and nothing is clamped, as in ``mel.MelSpectrogram.log``,
    which has no gradient below its floor and so nothing to lead a search out of it.
    """

    filters: Tensor

    def __init__(self, sample_rate: int, bands: int) -> None:
        super().__init__()
        self.n_fft = size(sample_rate, 20.0)
        self.hop = self.n_fft // 4
        filters = mel_filters(sample_rate, self.n_fft, bands)
        # The lowest filters may fall between two bins and be empty.
        filters = filters / filters.amax(1, keepdim=True).clamp(min=1e-12)
        self.register_buffer("filters", filters)

    def forward(self, wave: Tensor) -> Tensor:
        """Wave (B, A, L) -> dB (B, A, bands, L // hop + 1), from -80 on."""
        mel = self.filters.to(wave) @ power(wave, self.n_fft, self.hop)
        return 10 * (mel + SILENCE).log10()
