"""Latents between -1 and 1, nothing drawn and nothing to pay."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from glissando.networks.bottlenecks.base import Bottleneck


class Bounded(NamedTuple):
    """``mean`` (B, C, ...), which is also what a decoder is trained on."""

    mean: Tensor

    @property
    def codes(self) -> None:
        """It has none."""
        return None

    def sample(self) -> Tensor:
        """``mean`` itself."""
        return self.mean

    def penalties(self) -> dict[str, Tensor]:
        """None."""
        return {}


class Tanh(Bottleneck):
    """tanh of C inputs: a plain autoencoder whose latents have a known range. No weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = self.inputs = channels

    def forward(self, raw: Tensor) -> Bounded:
        return Bounded(raw.float().tanh())

    def settle(self, z: Tensor) -> Tensor:
        return z.clamp(-1, 1)
