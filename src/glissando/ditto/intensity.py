"""Intensity: a clip that is as loud at each moment as a curve says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from glissando.controls.dynamics import savitzky_golay
from glissando.ditto.base import Aim, Sound, Target, either
from glissando.ditto.points import number, points
from glissando.ditto.stft import SILENCE
from glissando.errors import UserError

BLOCK = 0.02
"""Seconds of which the loudness is one number: a period of the lowest notes."""
EXAMPLE = "0:-40 3:-10 6:-40"


@dataclass(kw_only=True)
class Intensity(Target):
    """DITTO's intensity, after Music ControlNet's dynamics (Wu et al. 2023, arXiv:2311.07069).

    The root mean square in dB below full scale, smoothed by a Savitzky-Golay filter. The loss is
    the mean square of its distance from the curve, in dB².

    Args:
        curve: points ``seconds:dB`` with straight lines between them, level beyond the ends.
        reference: an audio file whose own curve is followed, as far as it goes.
        smooth: seconds of the filter's window, 1 as published; its polynomials are quadratic.
    """

    curve: str | None = None
    reference: str | None = None
    smooth: float = 1.0
    tolerance: float = 0.25  # half a dB

    def __post_init__(self) -> None:
        super().__post_init__()
        either(self.curve, self.reference, ("curve", "reference"), f"ditto.curve={EXAMPLE!r}")
        if not (isinstance(self.smooth, int | float) and 0 <= self.smooth < math.inf):
            raise UserError(f"ditto.smooth must be seconds from 0, not {self.smooth}")
        if self.curve is not None:
            self._points()

    def aim(self, sound: Sound) -> Aim:
        loudness = Loudness(sound, self.smooth)
        if self.reference is not None:
            wave = sound.read(self.reference)
            part = Loudness(sound._replace(length=wave.shape[-1]), self.smooth)
            loudness.wanted = part.decibels(wave)[0]
        else:
            at, decibels = self._points()
            times = loudness.times.double()
            loudness.wanted = interpolated(times, at, decibels).to(torch.float32)
        return loudness

    def _points(self) -> tuple[Tensor, Tensor]:
        """Seconds and dB (N,) of the curve, float64."""
        pairs = [(at, number(v)) for at, v in points(self.curve or "", "ditto.curve", EXAMPLE)]
        for _, decibels in pairs:
            if not -80 <= decibels <= 0:
                raise UserError(
                    "ditto.curve is in dB below full scale, from -80 (silence) to 0, as in "
                    f"ditto.curve={EXAMPLE!r}"
                )
        at, values = torch.tensor(pairs, dtype=torch.float64).mT.contiguous()
        return at, values


class Loudness(Aim):
    """The smoothed dB of clips against ``wanted`` (T,), which may end before they do."""

    wanted: Tensor
    times: Tensor

    def __init__(self, sound: Sound, smooth: float) -> None:
        super().__init__()
        self.block = max(1, round(BLOCK * sound.sample_rate))
        frames = -(-sound.length // self.block)
        self.step = self.block / sound.sample_rate
        self.window = round(smooth / self.step) // 2 * 2 + 1
        self.register_buffer("times", (torch.arange(frames) + 0.5) * self.step)
        self.register_buffer("wanted", torch.full((frames,), torch.nan))

    def forward(self, wave: Tensor) -> Tensor:
        reached = self.decibels(wave)[:, : len(self.wanted)]
        return (reached - self.wanted).square().mean(1)

    def decibels(self, wave: Tensor) -> Tensor:
        """Wave (B, A, L) -> smoothed dB (B, T): the power of all channels, 0 dB at 1."""
        length = wave.shape[-1]
        power = wave.square().mean(1)
        total = pad(power, (0, -length % self.block)).unflatten(1, (-1, self.block)).sum(2)
        count = torch.full_like(total, self.block)
        count[:, -1] = length - (total.shape[1] - 1) * self.block  # the last may not be whole
        return savitzky_golay(10 * (total / count + SILENCE).log10(), self.window)

    def told(self, wave: Tensor) -> list[dict[str, Any]]:
        wanted = rounded(self.wanted)
        return [
            {"unit": "dB", "every": self.step, "wanted": wanted, "reached": rounded(row)}
            for row in self.decibels(wave)
        ]


def rounded(values: Tensor) -> list[float]:
    """(T,) as plain numbers to a tenth."""
    return [round(value, 1) for value in values.tolist()]


def interpolated(times: Tensor, at: Tensor, values: Tensor) -> Tensor:
    """Straight lines through the points (``at``, ``values``) at ``times``, level beyond them."""
    if len(at) == 1:
        return values.expand(len(times))
    upper = torch.searchsorted(at, times).clamp(1, len(at) - 1)
    low, high = at[upper - 1], at[upper]
    share = ((times - low) / (high - low)).clamp(0, 1)
    return torch.lerp(values[upper - 1], values[upper], share)
