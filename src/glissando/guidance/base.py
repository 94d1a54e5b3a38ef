"""Guidance: a denoiser and a condition made into one function of (z, t)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from glissando.condition import Condition
from glissando.diffusion.denoiser import Denoiser
from glissando.diffusion.estimate import Denoise, Estimate
from glissando.diffusion.path import spread
from glissando.errors import UserError


class Companion(NamedTuple):
    """Another model, and the clips at hand as its own conditioners describe them."""

    denoiser: Denoiser
    condition: Condition


class Guidance(ABC):
    """``guidance(denoiser, condition, null)`` -> ``denoise``.

    ``null`` is the condition to move away from: the empty one, or that of a negative prompt.
    """

    @property
    def uses_null(self) -> bool:
        """Whether ``null``, and so a negative prompt, has any effect."""
        return True

    @property
    def repeatable(self) -> bool:
        """Whether ``denoise`` answers (z, t) alike each time, whatever it was asked before."""
        return True

    def bind(self, companion: Callable[[str], Companion]) -> Guidance:
        """This guidance for the clips at hand; ``companion(ckpt)`` is another model for them.

        Those that need no other model are themselves for all clips.
        """
        del companion
        return self

    @abstractmethod
    def __call__(
        self,
        denoiser: Denoiser,
        condition: Condition,
        null: Condition,
        mask: Tensor | None = None,
    ) -> Denoise:
        """``mask`` (B, T), True = a real frame, goes to the network with each call."""


class Unguided(Guidance):
    """The condition alone: one evaluation, ``null`` unused."""

    @property
    def uses_null(self) -> bool:
        return False

    def __call__(
        self,
        denoiser: Denoiser,
        condition: Condition,
        null: Condition,
        mask: Tensor | None = None,
    ) -> Denoise:
        def denoise(z: Tensor, t: Tensor) -> Estimate:
            return denoiser(z, t, condition, mask)

        return denoise


class Pair:
    """Condition and null through the network as one batch of 2 B."""

    def __init__(
        self, denoiser: Denoiser, condition: Condition, null: Condition, mask: Tensor | None
    ) -> None:
        self.denoiser, self.condition, self.mask = denoiser, condition, mask
        self._both = condition.cat(null)
        self._masks = None if mask is None else mask.repeat(2, 1)

    def outputs(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The network's outputs (B, C, F, T) with the condition and with the null."""
        twice = z.repeat(2, *[1] * (z.ndim - 1))
        kept, dropped = self.denoiser.output(twice, t.repeat(2), self._both, self._masks).chunk(2)
        return kept, dropped

    def alone(self, z: Tensor, t: Tensor) -> Estimate:
        """The estimate with the condition, at the cost of one."""
        return self.denoiser(z, t, self.condition, self.mask)


class Interval:
    """The log-SNRs in which guidance is on (Kynkaanniemi et al. 2024); None is all of them."""

    def __init__(self, bounds: Sequence[float] | None) -> None:
        try:
            self.low, self.high = map(float, (-math.inf, math.inf) if bounds is None else bounds)
        except (TypeError, ValueError):  # a single number, or not two
            self.low = self.high = math.nan
        if not self.low < self.high:
            raise UserError(f"guidance.interval is [low, high] in log-SNR, not {bounds}")
        self._always = bounds is None

    def holds(self, denoiser: Denoiser, t: Tensor) -> bool:
        """Whether t (B,), one level for the whole batch, is inside.

        Samplers give t on the host, so this waits for no device.
        """
        return self._always or self.low <= float(denoiser.path(t[0]).log_snr) <= self.high


def moved(denoiser: Denoiser, t: Tensor, estimate: Estimate, change: Tensor) -> Estimate:
    """The estimate with ``change`` (B, C, F, T) added to x_0, and the eps that then fits z."""
    c = denoiser.path(t)
    ratio = torch.where(c.sigma > 0, c.alpha / c.sigma, 0)
    return Estimate(estimate.x_0 + change, estimate.eps - spread(ratio, change) * change)
