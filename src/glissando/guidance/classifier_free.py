"""Classifier-free guidance (Ho & Salimans 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glissando.condition import Condition
from glissando.diffusion.denoiser import Denoiser
from glissando.diffusion.estimate import Denoise, Estimate
from glissando.errors import UserError
from glissando.guidance.base import Guidance, Interval, Pair


class ClassifierFree(Guidance):
    """F = F_null + scale (F_cond - F_null); linear, so the same in x_0, eps or F.

    Args:
        scale: 1 is no guidance and costs one evaluation; 4 is usual for music.
        rescale: in [0, 1], how much of the guided output's standard deviation is brought back to
            that of the conditional one, over all latent axes (Lin et al. 2024, section 3.4; on
            the network's output, as published).
        interval: [low, high] in log-SNR where guidance is on; outside, only the condition runs.
    """

    def __init__(
        self,
        scale: float = 4.0,
        rescale: float = 0.0,
        interval: Sequence[float] | None = None,
    ) -> None:
        if not 0 <= rescale <= 1:
            raise UserError(f"guidance.rescale must be between 0 and 1, not {rescale}")
        self.scale, self.rescale, self.interval = scale, rescale, Interval(interval)

    @property
    def uses_null(self) -> bool:
        return self.scale != 1

    def __call__(
        self,
        denoiser: Denoiser,
        condition: Condition,
        null: Condition,
        mask: Tensor | None = None,
    ) -> Denoise:
        pair = Pair(denoiser, condition, null, mask)

        def denoise(z: Tensor, t: Tensor) -> Estimate:
            if self.scale == 1 or not self.interval.holds(denoiser, t):
                return pair.alone(z, t)
            kept, dropped = pair.outputs(z, t)
            guided = torch.lerp(dropped, kept, self.scale)
            if self.rescale > 0:
                # An untrained network answers 0 everywhere: its deviation must not divide.
                share = deviation(kept, mask) / deviation(guided, mask).clamp(min=1e-12)
                guided = guided * (1 + self.rescale * (share - 1))
            return denoiser.estimate(z, t, guided)

        return denoise


def deviation(value: Tensor, mask: Tensor | None) -> Tensor:
    """Standard deviation (B, 1, 1, 1) over C, F and the real frames of (B, C, F, T)."""
    if mask is None:
        return value.std((1, 2, 3), keepdim=True)
    real = mask[:, None, None].expand_as(value).to(value)
    count = real.sum((1, 2, 3), keepdim=True)
    mean = (real * value).sum((1, 2, 3), keepdim=True) / count
    return ((real * (value - mean) ** 2).sum((1, 2, 3), keepdim=True) / (count - 1)).sqrt()
