"""AdaLN-single: one projection for all blocks, and a small table for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from glissando.condition import Condition, Sizes, Vector
from glissando.conditioning.base import Mechanism, Modulation, Pooled, zero


class AdaLNSingle(Mechanism):
    """Modulation = one projection shared by all blocks + a table of the block's own.

    Chen et al. 2023, PixArt-alpha, section 2.3. Branches of one role and width share a projection,
    E x 3 D in all instead of a branch. Everything starts at zero (PixArt starts from a trained
    network instead), so a block starts as the identity, as with AdaLN-Zero.

    Args:
        embedding: width E of the embedding; None is the network's.
    """

    carries: ClassVar = (Vector,)
    noise_rank: ClassVar = 0

    def __init__(
        self, sizes: Sizes, reads: Iterable[str], width: int, embedding: int | None = None
    ) -> None:
        super().__init__(sizes, reads, embedding or width)
        self.embed = Pooled(self.sizes, self.width)
        self.shared = nn.ModuleDict()  # grows as the network asks for modulations

    def forward(self, condition: Condition) -> Any:
        """{role and width: (B, 2 or 3 D)}"""
        embedding = fn.silu(self.embed(condition))
        return {key: projection(embedding) for key, projection in self.shared.items()}

    def modulation_for(self, width: int, role: str, gated: bool = True) -> nn.Module:
        parts = 3 if gated else 2
        key = f"{role}_{width}_{parts}"
        if key not in self.shared:
            self.shared[key] = zero(nn.Linear(self.width, parts * width))
        return Table(key, parts, width)


class Table(nn.Module):
    """A block's own offset (2 or 3, D) to what all blocks share."""

    def __init__(self, key: str, parts: int, width: int) -> None:
        super().__init__()
        self.key = key
        self.offset = nn.Parameter(torch.zeros(parts, width))

    def forward(self, signal: Mapping[str, Tensor]) -> Modulation:
        shared = signal[self.key].reshape(-1, *self.offset.shape)
        return Modulation(*(shared + self.offset).unbind(dim=1))
