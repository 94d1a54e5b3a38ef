"""Vocos (Siuzdak 2023, arXiv:2306.00814): spectra in frames, an inverse STFT makes the samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glissando.networks.convnext import Backbone
from glissando.representations.stft import STFT

_LOUDEST = 1e2  # of a bin, as published: a guard at the start of training


class Vocos(nn.Module):
    """Log magnitudes (N, F, T) -> waveform (N, T hop).

    ConvNeXt blocks over the frames, whose rate never changes, then one linear layer to the log
    magnitude and the phase of every bin (section 3.2). The inverse transform is framed as
    ``Spectrum`` is.

    Args:
        freqs: F. stft: of the spectrum; the inverse transform has its size and hop.
        width, depth, expansion: of the blocks; 512, 8 and 3 as published.
    """

    def __init__(
        self, freqs: int, stft: STFT, width: int = 512, depth: int = 8, expansion: int = 3
    ) -> None:
        super().__init__()
        self.stft = STFT(stft.n_fft, stft.hop)
        self.backbone = Backbone(freqs, width, depth, expansion)
        self.head = nn.Linear(width, 2 * self.stft.bins)

    def forward(self, logs: Tensor) -> Tensor:
        made = self.head(self.backbone(logs).mT).mT.float()
        level, phase = made.chunk(2, dim=1)
        spectrum = torch.polar(level.exp().clamp(max=_LOUDEST), phase)
        return self.stft.inverse(spectrum, logs.shape[-1] * self.stft.hop)
