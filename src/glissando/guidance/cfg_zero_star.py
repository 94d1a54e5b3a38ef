"""CFG-Zero* (Fan et al. 2025), made for flow matching."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from glissando.condition import Condition
from glissando.diffusion.denoiser import Denoiser
from glissando.diffusion.estimate import Denoise, Estimate
from glissando.errors import UserError
from glissando.guidance.base import Guidance, Interval, Pair


class CFGZeroStar(Guidance):
    """F = s F_null + scale (F_cond - s F_null), s = <F_cond, F_null> / |F_null|² per clip.

    Works on the network's output, as published (there the velocity). ``zero_below`` is the
    log-SNR under which the output is 0, the paper's "zero-init" of the first step or two: a
    velocity of 0 leaves z as it is. None never does; with 50 uniform steps on the rectified path
    -7 is the first two.
    """

    def __init__(
        self,
        scale: float = 4.0,
        zero_below: float | None = None,
        interval: Sequence[float] | None = None,
    ) -> None:
        if zero_below is not None and not zero_below < math.inf:
            raise UserError(f"guidance.zero_below is a log-SNR or null, not {zero_below}")
        self.scale, self.interval = scale, Interval(interval)
        self.start = Interval(None if zero_below is None else (zero_below, math.inf))

    def __call__(
        self,
        denoiser: Denoiser,
        condition: Condition,
        null: Condition,
        mask: Tensor | None = None,
    ) -> Denoise:
        pair = Pair(denoiser, condition, null, mask)

        def denoise(z: Tensor, t: Tensor) -> Estimate:
            if not self.start.holds(denoiser, t):
                return denoiser.estimate(z, t, torch.zeros_like(z))
            if not self.interval.holds(denoiser, t):
                return pair.alone(z, t)
            kept, dropped = pair.outputs(z, t)
            dropped = projection(kept, dropped, mask) * dropped
            return denoiser.estimate(z, t, torch.lerp(dropped, kept, self.scale))

        return denoise


def projection(value: Tensor, onto: Tensor, mask: Tensor | None) -> Tensor:
    """<value, onto> / |onto|² (B, 1, 1, 1), over C, F and the real frames."""
    if mask is not None:
        onto = torch.where(mask[:, None, None], onto, 0)
        value = torch.where(mask[:, None, None], value, 0)
    dot = (value * onto).sum((1, 2, 3), keepdim=True)
    return dot / (onto * onto).sum((1, 2, 3), keepdim=True).clamp(min=1e-12)
