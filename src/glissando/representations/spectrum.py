"""What a spectrogram keeps of a waveform, and the promise to bring the rest back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from glissando.errors import UserError
from glissando.mel import mel_filters
from glissando.representations.stft import STFT


class Spectrum(nn.Module):
    """Waveform (..., L) -> magnitudes >= 0, (..., F, T), in FFT bins or in mel bands.

    Args:
        sample_rate: Hz.
        n_fft, hop, window: of the transform, in samples (see ``STFT``).
        bands: Slaney's triangular filters of unit area between ``f_min`` and ``f_max`` Hz
            (``f_max`` None: half the sample rate), as HiFi-GAN and AudioLDM take them; None: bins.

    Raises UserError for frequencies out of order.
    """

    filters: Tensor | None
    settings: dict[str, Any]
    """The arguments, with what None stands for: equal where the magnitudes are."""

    def __init__(
        self,
        sample_rate: int,
        n_fft: int,
        hop: int,
        window: int | None = None,
        bands: int | None = None,
        f_min: float = 0.0,
        f_max: float | None = None,
    ) -> None:
        super().__init__()
        self.sample_rate, self.stft = sample_rate, STFT(n_fft, hop, window)
        self.settings = {
            "sample_rate": sample_rate, "n_fft": n_fft, "hop": hop, "window": window or n_fft,
            "bands": bands, "f_min": float(f_min),
            "f_max": sample_rate / 2 if f_max is None else float(f_max),
        }  # fmt: skip
        self.freqs = self.stft.bins if bands is None else bands
        filters = None
        if bands is not None:
            try:
                filters = mel_filters(sample_rate, n_fft, bands, f_min, f_max)
            except ValueError as error:
                raise UserError(f"representation.f_min, representation.f_max: {error}") from None
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Float32 inside, also under autocast."""
        magnitude = self.stft(wave).abs()
        if self.filters is None:
            return magnitude
        with torch.autocast(wave.device.type, enabled=False):
            return self.filters @ magnitude


class Vocoder(nn.Module, ABC):
    """Magnitudes of one ``Spectrum`` -> waveform. Built with that spectrum: ``Vocoder(spectrum)``.

    ``reach``: blocks on either side of its own that a frame is heard in; None: all of a clip.
    """

    reach: int | None

    @abstractmethod
    def forward(self, magnitude: Tensor, length: int) -> Tensor:
        """(B, A, F, T) >= 0 -> (B, A, length), ``length`` at most T hop; deterministic."""
