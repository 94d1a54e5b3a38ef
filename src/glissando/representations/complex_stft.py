"""Complex spectra with compressed amplitudes, after EDMSound (Zhu et al., arXiv:2311.08667)."""

from __future__ import annotations

import torch
from torch import Tensor

from glissando.errors import UserError
from glissando.representations.base import Representation
from glissando.representations.stft import STFT

_LEAST = 1e-8  # magnitudes below it are scaled as it is: at 0 the slope of |c|^power is infinite


class ComplexSTFT(Representation):
    """Waveform (B, A, L) <-> (B, 2 A, n_fft // 2 + 1, ceil(L / hop)), exactly invertible.

    Each spectral value c becomes ``factor`` |c|^``power`` e^(i arg c), whose real and imaginary
    parts are channels 2a and 2a + 1 of audio channel a. A ``power`` below 1 brings the quiet, high
    partials of music nearer to the loud, low ones.

    Args:
        sample_rate: Hz. audio_channels: A.
        n_fft, hop, window: of the transform, in samples (see ``STFT``).
        power: above 0; 1 leaves amplitudes as they are. factor: above 0.

    Raises UserError for values outside these ranges.
    """

    def __init__(
        self,
        sample_rate: int,
        audio_channels: int,
        n_fft: int = 510,
        hop: int = 256,
        window: int | None = None,
        power: float = 0.5,
        factor: float = 0.3,
    ) -> None:
        for name, value in (("power", power), ("factor", factor)):
            if value <= 0:
                raise UserError(f"representation.{name} must be above 0, not {value}")
        stft = STFT(n_fft, hop, window)
        super().__init__(
            2 * audio_channels, stft.bins, hop, sample_rate, audio_channels,
            n_fft=n_fft, window=window, power=float(power), factor=float(factor),
        )  # fmt: skip
        self.stft, self.power, self.factor = stft, power, factor

    @property
    def reach(self) -> int:
        return self.stft.reach

    def frames(self, length: int) -> int:
        return self.stft.frames(length)

    def encode_piece(self, wave: Tensor) -> Tensor:
        parts = torch.view_as_real(self.stft(wave))  # (B, A, F, T, 2)
        parts = self.factor * _raised(parts, self.power, _LEAST)
        return parts.movedim(-1, 2).flatten(1, 2)

    def decode_piece(self, z: Tensor, length: int) -> Tensor:
        parts = z.float().unflatten(1, (-1, 2)).movedim(2, -1) / self.factor
        parts = _raised(parts, 1 / self.power, _LEAST**self.power)
        return self.stft.inverse(torch.view_as_complex(parts.contiguous()), length)


def _raised(parts: Tensor, power: float, least: float) -> Tensor:
    """c |c|^(power - 1) of real and imaginary parts (..., 2); linear where |c| < ``least``."""
    magnitude = parts.square().sum(-1, keepdim=True).clamp_min(least**2)
    return parts * magnitude ** ((power - 1) / 2)
