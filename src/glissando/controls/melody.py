"""Melody: the strongest pitch class at each moment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from glissando.controls.base import Control, power_at, window_size
from glissando.errors import UserError

HIGHEST = 4186.0
"""Hz, the highest C of a piano; above it are overtones alone."""
SILENCE = 1e-4 / 2
"""Magnitude of a sine of amplitude 1e-4, -80 dB: below it nothing is sung."""
WIDTH = 0.35
"""Semitones: the deviation of a pitch class's weight, about half the width of a note's peak."""


@dataclass(frozen=True)
class Melody(Control):
    """The strongest of twelve pitch classes (C first, A = 440 Hz) as a one-hot, zeros in silence.

    The chroma is the spectrum folded into pitch classes after a second-order high-pass at middle C,
    which takes bass and accompaniment back (after Wu et al. 2023). Magnitudes are folded and not
    powers: on 30 clips of scores the class then sounds within 50 ms in 91 % of columns, else 88 %.

    Args:
        low: Hz, cut-off of the high-pass; 261.6 is middle C.
        window: seconds of a spectrum, rounded to a power of two in samples. Shorter ones cannot
            tell neighbouring semitones apart near middle C.
    """

    low: float = 261.6
    window: float = 0.18

    name: ClassVar[str] = "melody"
    dim: ClassVar[int] = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.low < HIGHEST / 2:
            raise UserError(
                f"conditioner.melody.control.low={self.low} must be Hz above 0 and below 2093"
            )
        if not 0.02 <= self.window <= 2:
            raise UserError(
                f"conditioner.melody.control.window={self.window} must be 0.02 to 2 seconds"
            )

    def curve(self, wave: Tensor, sample_rate: int) -> Tensor:
        chroma = self.chroma(wave, sample_rate)
        strongest = one_hot(chroma.argmax(0), 12).T
        return (strongest * (chroma.amax(0) > SILENCE)).float()

    def chroma(self, wave: Tensor, sample_rate: int) -> Tensor:
        """Wave (C, L) -> magnitude of each pitch class (12, n), the high-pass applied."""
        n_fft = window_size(sample_rate, self.window)
        centres = (torch.arange(self.columns(wave.shape[1], sample_rate)) + 0.5) / self.rate
        # Inside the clip: half a column may lie after its end.
        centres = centres.clamp(max=wave.shape[1] / sample_rate)
        power = power_at(wave, centres, sample_rate, n_fft)
        heard = (high_pass(sample_rate, n_fft, self.low)[:, None] * power).sqrt()
        return pitch_classes(sample_rate, n_fft) @ heard


def pitch_classes(sample_rate: int, n_fft: int) -> Tensor:
    """(12, n_fft // 2 + 1): how much of a bin belongs to each pitch class, C first.

    A Gaussian of ``WIDTH`` semitones around the nearest of a class's pitches; nothing above
    ``HIGHEST``.
    """
    hz = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * sample_rate / n_fft
    semitones = 69 + 12 * torch.log2(hz.clamp(min=1e-9) / 440)
    away = (semitones - torch.arange(12)[:, None] + 6) % 12 - 6
    weights = torch.exp(-((away / WIDTH) ** 2) / 2)
    return torch.where(hz <= HIGHEST, weights, 0).float()


def high_pass(sample_rate: int, n_fft: int, low: float) -> Tensor:
    """(n_fft // 2 + 1,): the power response of a digital second-order Butterworth high-pass."""
    angle = math.pi / 2 * torch.linspace(0, 1, n_fft // 2 + 1, dtype=torch.float64)
    ratio = (torch.tan(angle[:-1]) / math.tan(math.pi * low / sample_rate)) ** 4
    return torch.cat([ratio / (1 + ratio), torch.ones(1)]).float()
