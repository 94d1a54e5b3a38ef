"""CFG++ (Chung et al. 2024): guidance that stays on the data's manifold."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glissando.condition import Condition
from glissando.diffusion.denoiser import Denoiser
from glissando.diffusion.estimate import Denoise, Estimate
from glissando.errors import UserError
from glissando.guidance.base import Guidance, Interval, Pair


class CFGPlusPlus(Guidance):
    """x_0 = x_0_null + scale (x_0_cond - x_0_null), scale in [0, 1], re-noised with eps_null.

    Samplers that use eps (euler, ddim, heun ...) follow it; those that only use x_0 (the DPM++
    family, unipc, pingpong) see a mere interpolation, for which plain guidance is better.
    """

    def __init__(self, scale: float = 0.7, interval: Sequence[float] | None = None) -> None:
        if not 0 <= scale <= 1:
            raise UserError(f"guidance.scale of CFG++ must be between 0 and 1, not {scale}")
        self.scale, self.interval = scale, Interval(interval)

    def __call__(
        self,
        denoiser: Denoiser,
        condition: Condition,
        null: Condition,
        mask: Tensor | None = None,
    ) -> Denoise:
        pair = Pair(denoiser, condition, null, mask)

        def denoise(z: Tensor, t: Tensor) -> Estimate:
            if not self.interval.holds(denoiser, t):
                return pair.alone(z, t)
            kept, dropped = (denoiser.estimate(z, t, output) for output in pair.outputs(z, t))
            return Estimate(torch.lerp(dropped.x_0, kept.x_0, self.scale), dropped.eps)

        return denoise
