"""Autoguidance (Karras et al. 2024): away from a worse version of the model itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

import torch
from torch import Tensor

from glissando.condition import Condition
from glissando.diffusion.denoiser import Denoiser
from glissando.diffusion.estimate import Denoise, Estimate
from glissando.diffusion.path import Path
from glissando.errors import UserError
from glissando.guidance.base import Companion, Guidance, Interval


class Autoguidance(Guidance):
    """D = D_weak + scale (D - D_weak), both with the condition; ``null`` is unused.

    The weak model is trained less or smaller, on the same path and latents (any parameterization),
    and reads the same attributes by conditioners of its own.

    Args:
        ckpt: what names the weak model to ``bind``, such as an earlier checkpoint.
        scale: 1 is no guidance and costs one evaluation; the authors' presets have 1.7 to 2.45.
        interval: [low, high] in log-SNR where guidance is on.
    """

    def __init__(
        self, ckpt: str, scale: float = 2.0, interval: Sequence[float] | None = None
    ) -> None:
        self.ckpt, self.scale, self.interval = ckpt, scale, Interval(interval)
        self._weak: Companion | None = None

    @property
    def uses_null(self) -> bool:
        return False

    def bind(self, companion: Callable[[str], Companion]) -> Autoguidance:
        bound = copy(self)
        bound._weak = companion(self.ckpt)
        return bound

    def __call__(
        self,
        denoiser: Denoiser,
        condition: Condition,
        null: Condition,
        mask: Tensor | None = None,
    ) -> Denoise:
        """Raises ValueError before ``bind``, UserError if t means another noise to the weak one."""
        if self._weak is None:
            raise ValueError("autoguidance knows its weak model only after bind(companion)")
        weak = self._weak
        if not same(denoiser.path, weak.denoiser.path):
            raise UserError(
                f"guidance.ckpt: {self.ckpt} was trained on another path of noise; give a "
                "checkpoint with the same objective/path="
            )

        def denoise(z: Tensor, t: Tensor) -> Estimate:
            good = denoiser(z, t, condition, mask)
            if self.scale == 1 or not self.interval.holds(denoiser, t):
                return good
            bad = weak.denoiser(z, t, weak.condition, mask)
            return Estimate(
                torch.lerp(bad.x_0, good.x_0, self.scale),
                torch.lerp(bad.eps, good.eps, self.scale),
            )

        return denoise


def same(one: Path, other: Path) -> bool:
    """Whether a time means the same noise on two paths."""
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    a, b = one(t), other(t)
    return torch.allclose(a.alpha, b.alpha) and torch.allclose(a.sigma, b.sigma)
