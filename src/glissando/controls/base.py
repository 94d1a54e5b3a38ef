"""What every control promises, and spectra at the moments that it asks for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from glissando.errors import UserError

AT_ONCE = 512
"""Spectra computed in one call: long recordings take no more memory than short ones."""


@dataclass(frozen=True)
class Control(ABC):
    """A function of audio alone, (C, L) -> (dim, n): ``rate`` columns a second.

    Column k says something of the time from k / rate to (k + 1) / rate; the last may be cut short,
    so n = ceil(L rate / sample rate). It is the same whatever stands around, at any sample rate
    and number of channels, up to what the sample rate leaves out.

    ``name`` is the clip's attribute that it becomes, ``dim`` D, and ``version`` is raised where the
    same audio gives another curve, so that cached ones are made anew.

    Raises UserError for a rate outside 1 to 1000.
    """

    rate: float = 50.0

    name: ClassVar[str]
    dim: ClassVar[int]
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 1 <= self.rate <= 1000:
            raise UserError(
                f"conditioner.{self.name}.control.rate={self.rate} must be between 1 and 1000 "
                "columns a second"
            )

    @abstractmethod
    def curve(self, wave: Tensor, sample_rate: int) -> Tensor:
        """(C, L) float32, L > 0 -> (dim, ``columns``)."""

    @torch.no_grad()
    def __call__(self, wave: Tensor, sample_rate: int) -> Tensor:
        """Wave (C, L) in [-1, 1] -> (dim, n) float32 on the CPU.

        Raises ValueError for audio without samples or of another shape.
        """
        if wave.ndim != 2 or not wave.numel():
            raise ValueError(f"need audio (C, L), got {tuple(wave.shape)}")
        return self.curve(wave.detach().cpu().float(), sample_rate)

    def settings(self) -> dict[str, Any]:
        """All that decides the curve, as plain values: what a cache of curves is known by."""
        return {"version": self.version, **asdict(self)}

    def columns(self, samples: int, sample_rate: int) -> int:
        """n of a clip of so many samples."""
        return max(1, math.ceil(samples * self.rate / sample_rate - 1e-6))


def window_size(sample_rate: int, seconds: float) -> int:
    """The power of two that is nearest in ratio to ``seconds``, at least 16 samples."""
    return 2 ** max(4, round(math.log2(sample_rate * seconds)))


def power_at(wave: Tensor, times: Tensor, sample_rate: int, n_fft: int) -> Tensor:
    """Power spectra of (C, L) centred on ``times`` (n,) seconds, the channels' mean.

    (n_fft // 2 + 1, n): Hann windows whose sum is 1, so that a sine of amplitude a has a peak of
    a² / 4; zeros around the clip.
    """
    window = torch.hann_window(n_fft)
    padded = pad(wave, (n_fft // 2, n_fft))
    starts = (times * sample_rate).round().long()
    parts = []
    for some in starts.split(AT_ONCE):
        frames = padded[:, some[:, None] + torch.arange(n_fft)]  # (C, n, n_fft)
        spectrum = torch.fft.rfft(frames * (window / window.sum()))
        parts.append((spectrum.real.square() + spectrum.imag.square()).mean(0).T)
    return torch.cat(parts, dim=1)
