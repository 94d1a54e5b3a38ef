"""Latents that are one of a finite number of codes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Quantized(NamedTuple):
    """A latent and the codes that are nearest to it.

    ``mean`` (B, C, ...) is not quantized. ``trained`` is what the codes stand for, with a gradient
    to ``mean``, but for books that training leaves out. ``codes`` (B, K, ...); ``losses`` are
    scalars by name.
    """

    mean: Tensor
    trained: Tensor
    codes: Tensor
    losses: dict[str, Tensor]

    def sample(self) -> Tensor:
        """``trained``."""
        return self.trained

    def penalties(self) -> dict[str, Tensor]:
        """``losses``."""
        return self.losses


def straight_through(x: Tensor, quantized: Tensor) -> Tensor:
    """The values of ``quantized`` with the gradient of ``x`` (Bengio et al. 2013)."""
    return x + (quantized - x).detach()
