"""Adaptive layer norm: vectors set the shift, scale and gate of every residual branch.

Peebles & Xie 2023, "Scalable Diffusion Models with Transformers", section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch.nn.functional as fn
from torch import Tensor, nn

from glissando.condition import Condition, Sizes, Vector
from glissando.conditioning.base import Mechanism, Modulation, Pooled, zero


class Regress(nn.Module):
    """(B, E) -> `Modulation` of a branch of D = width."""

    def __init__(self, embedding: int, width: int, gated: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(embedding, width * (3 if gated else 2))
        self.gated = gated

    def forward(self, signal: Tensor) -> Modulation:
        return Modulation(*self.linear(signal).chunk(3 if self.gated else 2, dim=-1))


class AdaLN(Mechanism):
    """Shift, scale and gate, each a linear function of SiLU(embedding), with an ordinary init.

    Args:
        embedding: width E of the embedding that all branches regress from; None is the network's
            (as published). Half of it halves the mechanism's parameters, 3 E D a branch.
    """

    carries: ClassVar = (Vector,)
    noise_rank: ClassVar = 0

    def __init__(
        self, sizes: Sizes, reads: Iterable[str], width: int, embedding: int | None = None
    ) -> None:
        super().__init__(sizes, reads, embedding or width)
        self.embed = Pooled(self.sizes, self.width)

    def forward(self, condition: Condition) -> Tensor:
        return fn.silu(self.embed(condition))

    def modulation_for(self, width: int, role: str, gated: bool = True) -> nn.Module:
        return Regress(self.width, width, gated)


class AdaLNZero(AdaLN):
    """AdaLN whose regression starts at zero: every block starts as the identity."""

    def modulation_for(self, width: int, role: str, gated: bool = True) -> nn.Module:
        regress = Regress(self.width, width, gated)
        zero(regress.linear)
        return regress
