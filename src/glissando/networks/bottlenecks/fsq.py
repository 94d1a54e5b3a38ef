"""Finite scalar quantization (Mentzer et al. 2024, arXiv 2309.15505)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from glissando.errors import UserError
from glissando.networks.bottlenecks.base import Bottleneck
from glissando.networks.bottlenecks.quantized import Quantized, straight_through

_MARGIN = 1e-3  # how far a bound reaches beyond its last level, as published


class FSQ(Bottleneck):
    """Every latent value is rounded to one of a few evenly spaced levels.

    The channels are dealt to C / len(levels) codes, each of prod(levels) values; nothing is learned
    and nothing collapses. Latents keep C channels, between -1 and 1.

    Args:
        channels: C, a multiple of len(levels).
        levels: how many values each channel of a code takes, 2 or more. Published for about 2^10
            values: 8 5 5 5; 2^12: 7 5 5 5 5; 2^14: 8 8 8 6 5.

    Raises UserError for values outside these ranges.
    """

    levels: Tensor

    def __init__(self, channels: int, levels: Sequence[int] = (8, 5, 5, 5)) -> None:
        super().__init__()
        if not levels or min(levels) < 2 or channels % len(levels):
            raise UserError(
                f"bottleneck.levels={list(levels)} must be whole numbers from 2 on, and so many "
                f"that they divide the {channels} latent channels"
            )
        self.channels = self.inputs = channels
        self.books = (math.prod(levels),) * (channels // len(levels))
        self.register_buffer("levels", torch.tensor(list(levels)), persistent=False)

    def forward(self, raw: Tensor) -> Quantized:
        x = raw.float().movedim(1, -1).unflatten(-1, (len(self.books), -1))  # (B, ..., K, n)
        levels = self.levels.to(x.dtype)
        half = (levels - 1) * (1 + _MARGIN) / 2
        # An even number of levels has none at 0: half a level to one side, then nothing at 0 moves.
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        bounded = half * torch.tanh(x + torch.atanh(offset / half)) - offset
        digits = bounded.round()
        lowest = -(self.levels // 2)
        weights = torch.cat([self.levels.new_ones(1), self.levels[:-1].cumprod(0)])
        codes = ((digits.long() - lowest) * weights).sum(-1).movedim(-1, 1)
        unit = (self.levels // 2).to(x.dtype)

        def latent(y: Tensor) -> Tensor:
            return (y / unit).flatten(-2).movedim(-1, 1)

        trained = straight_through(bounded, digits)
        return Quantized(latent(digits), latent(trained), codes, {})

    def values(self, codes: Tensor) -> Tensor:
        """(B, K, ...) -> the latent (B, C, ...) that they stand for: the inverse of ``codes``."""
        weights = torch.cat([self.levels.new_ones(1), self.levels[:-1].cumprod(0)])
        digits = codes.movedim(1, -1).unsqueeze(-1) // weights % self.levels
        half = self.levels // 2
        return ((digits - half) / half).flatten(-2).movedim(-1, 1)
