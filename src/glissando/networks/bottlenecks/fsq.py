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
    and nothing collapses. Latents keep C channels, between -1 and 1 (and a margin of 1e-3 around).

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
        x = self._dealt(raw)
        levels = self.levels.to(x.dtype)
        half = (levels - 1) * (1 + _MARGIN) / 2
        # An even number of levels has none at 0: half a level to one side, then nothing at 0 moves.
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        bounded = half * torch.tanh(x + torch.atanh(offset / half)) - offset
        codes = ((self._rounded(bounded).long() + self._half) * self._weights).sum(-1)
        mean = self._latent(bounded)
        return Quantized(mean, self.settle(mean), codes.movedim(-1, 1), {})

    def settle(self, z: Tensor) -> Tensor:
        scaled = self._dealt(z) * self._half
        return self._latent(straight_through(scaled, self._rounded(scaled)))

    def values(self, codes: Tensor) -> Tensor:
        """(B, K, ...) -> the latent (B, C, ...) that they stand for: the inverse of ``codes``."""
        digits = codes.movedim(1, -1).unsqueeze(-1) // self._weights % self.levels
        return self._latent(digits - self._half)

    @property
    def _half(self) -> Tensor:
        """(n,): the levels are whole numbers from -half on."""
        return self.levels // 2

    @property
    def _weights(self) -> Tensor:
        """(n,) of the digits of a code."""
        return torch.cat([self.levels.new_ones(1), self.levels[:-1].cumprod(0)])

    def _dealt(self, z: Tensor) -> Tensor:
        """(B, C, ...) -> (B, ..., K, n)."""
        return z.float().movedim(1, -1).unflatten(-1, (len(self.books), -1))

    def _rounded(self, scaled: Tensor) -> Tensor:
        return scaled.round().clamp(-self._half, self.levels - 1 - self._half)

    def _latent(self, scaled: Tensor) -> Tensor:
        """(B, ..., K, n) -> (B, C, ...), the inverse of ``_dealt``, levels 1 / half apart."""
        return (scaled / self._half).flatten(-2).movedim(-1, 1)
