"""Dynamics: how loud the music is at each moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import conv1d

from glissando.controls.base import Control
from glissando.errors import UserError

FLOOR = 1e-8
"""Power that is added: -80 dB, silence."""


@dataclass(frozen=True)
class Dynamics(Control):
    """Energy in dB below full scale, smoothed by a Savitzky-Golay filter (after Wu et al. 2023).

    From -80 (silence) to 0 (a square wave at full scale); the mean power of the channels.

    Args:
        smooth: seconds of the filter's window; its polynomials are quadratic. 0 smooths nothing.
    """

    smooth: float = 1.0

    name: ClassVar[str] = "dynamics"
    dim: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.smooth <= 60:
            raise UserError(
                f"conditioner.dynamics.control.smooth={self.smooth} must be 0 to 60 seconds"
            )

    def curve(self, wave: Tensor, sample_rate: int) -> Tensor:
        n = self.columns(wave.shape[1], sample_rate)
        edges = (torch.arange(n + 1) / self.rate * sample_rate).round().long()
        edges = edges.clamp(max=wave.shape[1])
        energy = wave.double().square().mean(0).cumsum(0)
        energy = torch.cat([energy.new_zeros(1), energy])[edges].diff()
        power = energy / edges.diff().clamp(min=1)
        decibels = 10 * (power + FLOOR).log10()
        return savitzky_golay(decibels, round(self.smooth * self.rate) // 2 * 2 + 1).float()[None]


def savitzky_golay(values: Tensor, window: int, degree: int = 2) -> Tensor:
    """(..., n) -> (..., n): each value is that of a polynomial fitted to ``window`` around it.

    Near the ends it is fitted to the first or last ``window`` values (Savitzky & Golay 1964;
    scipy's ``savgol_filter`` in its mode "interp"). ``window`` is odd; one longer than the values
    is as long as they are.
    """
    window = min(window, values.shape[-1])
    if window <= degree + 1:
        return values
    places = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    basis = places[:, None] ** torch.arange(degree + 1)
    fit = (basis @ torch.linalg.pinv(basis)).to(values)  # row i: the fitted value at place i
    half = window // 2
    middle = conv1d(values.reshape(-1, 1, values.shape[-1]), fit[half].expand(1, 1, -1))
    start = values[..., :window] @ fit[:half].T
    end = values[..., -window:] @ fit[half + 1 :].T
    return torch.cat([start, middle.view(*values.shape[:-1], -1), end], -1)
