"""Adaptive projected guidance (Sadat et al. 2024): high scales without oversaturation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glissando.condition import Condition
from glissando.diffusion.denoiser import Denoiser
from glissando.diffusion.estimate import Denoise, Estimate
from glissando.errors import UserError
from glissando.guidance.base import Guidance, Interval, Pair, moved
from glissando.guidance.cfg_zero_star import projection


class APG(Guidance):
    """x_0 = x_0_cond + (scale - 1) (orthogonal + parallel_share * parallel), on x_0.

    The difference x_0_cond - x_0_null is averaged over evaluations with ``momentum`` (negative:
    it pushes away from the last direction), limited to a root mean square of ``norm`` per clip
    (0 is no limit; the paper's 15 for SDXL is .06, its 7.5 for Stable Diffusion 2.1 .06), and split
    along x_0_cond. ``parallel_share`` 1 with momentum 0 and norm 0 is classifier-free guidance.
    """

    def __init__(
        self,
        scale: float = 7.0,
        parallel_share: float = 0.0,
        momentum: float = -0.5,
        norm: float = 0.1,
        interval: Sequence[float] | None = None,
    ) -> None:
        if norm < 0:
            raise UserError(f"guidance.norm must be at least 0 (0 is no limit), not {norm}")
        if not -1 < momentum < 1:
            raise UserError(f"guidance.momentum must be between -1 and 1, not {momentum}")
        self.scale, self.parallel_share = scale, parallel_share
        self.momentum, self.norm, self.interval = momentum, norm, Interval(interval)

    @property
    def uses_null(self) -> bool:
        return self.scale != 1

    @property
    def repeatable(self) -> bool:
        return self.momentum == 0 or self.scale == 1

    def __call__(
        self,
        denoiser: Denoiser,
        condition: Condition,
        null: Condition,
        mask: Tensor | None = None,
    ) -> Denoise:
        pair = Pair(denoiser, condition, null, mask)
        average = Average(self.momentum)

        def denoise(z: Tensor, t: Tensor) -> Estimate:
            if self.scale == 1 or not self.interval.holds(denoiser, t):
                return pair.alone(z, t)
            kept, dropped = (denoiser.estimate(z, t, output) for output in pair.outputs(z, t))
            update = self._limited(average(kept.x_0 - dropped.x_0), mask)
            parallel = projection(update, kept.x_0, mask) * kept.x_0
            update = update + (self.parallel_share - 1) * parallel
            return moved(denoiser, t, kept, (self.scale - 1) * update)

        return denoise

    def _limited(self, update: Tensor, mask: Tensor | None) -> Tensor:
        if self.norm == 0:
            return update
        if mask is None:
            power = (update**2).mean((1, 2, 3), keepdim=True)
        else:
            frames = torch.where(mask[:, None, None], update**2, 0).mean((1, 2))
            count = mask.sum(1).clamp(min=1)
            power = (frames.sum(1) / count)[:, None, None, None]
        return update * (self.norm / power.sqrt().clamp(min=1e-12)).clamp(max=1)


class Average:
    """The running sum of one run's updates: value + momentum times the last answer."""

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum
        self._last: Tensor | None = None

    def __call__(self, value: Tensor) -> Tensor:
        if self.momentum != 0:
            if self._last is not None:
                value = value + self.momentum * self._last
            self._last = value
        return value
