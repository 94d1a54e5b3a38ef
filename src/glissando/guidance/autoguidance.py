"""Autoguidance (Karras et al. 2024): away from a worse version of the model itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glissando.condition import Condition
from glissando.diffusion.denoiser import Denoiser
from glissando.diffusion.estimate import Denoise, Estimate
from glissando.guidance.base import Guidance, Interval


class Autoguidance(Guidance):
    """D = D_weak + scale (D - D_weak), both with the condition; ``null`` is unused.

    ``weak`` is a denoiser on the same path, trained less or smaller (any parameterization), that
    reads the same condition: an earlier checkpoint whose conditioners have no weights of their
    own, or the same conditioners kept frozen.
    """

    def __init__(
        self, weak: Denoiser, scale: float = 2.0, interval: Sequence[float] | None = None
    ) -> None:
        self.weak, self.scale, self.interval = weak, scale, Interval(interval)

    def __call__(
        self,
        denoiser: Denoiser,
        condition: Condition,
        null: Condition,
        mask: Tensor | None = None,
    ) -> Denoise:
        def denoise(z: Tensor, t: Tensor) -> Estimate:
            good = denoiser(z, t, condition, mask)
            if self.scale == 1 or not self.interval.holds(denoiser, t):
                return good
            weak = self.weak(z, t, condition, mask)
            return Estimate(
                torch.lerp(weak.x_0, good.x_0, self.scale),
                torch.lerp(weak.eps, good.eps, self.scale),
            )

        return denoise
