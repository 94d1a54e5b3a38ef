"""Prefix: the condition's tokens join the latent's own (in-context or time-domain conditioning)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from torch import nn

from glissando.condition import Condition, Sizes, Vector
from glissando.conditioning.base import Embed, Mechanism, Pooled, Tokens, join


class Prefix(Mechanism):
    """Tokens in front of the latent's, removed after the last block; in a U-Net extra keys/values.

    They are a set: each stands at the same position. Text encoders' tokens know their own order.

    Args:
        attend_padding: attend to padding tokens as well; then padding changes the output.
    """

    noise_rank: ClassVar = 2

    def __init__(
        self, sizes: Sizes, reads: Iterable[str], width: int, attend_padding: bool = False
    ) -> None:
        super().__init__(sizes, reads, width)
        self.embed = Embed(self.sizes, width)
        self.attend_padding = attend_padding

    def forward(self, condition: Condition) -> Tokens:
        tokens = join(self.embed(condition))
        return Tokens(tokens.value) if self.attend_padding else tokens

    def prefix_for(self, width: int) -> nn.Module:
        return Fit(self.width, width)


class PooledPrefix(Mechanism):
    """All the vectors it reads as one token: MLP(noise) + MLP(the others, concatenated).

    Stable Audio Open prepends this token, of timing and noise level (its `global` condition).

    Args:
        bias: whether the MLP of the vectors other than the noise level has biases.
    """

    carries: ClassVar = (Vector,)
    noise_rank: ClassVar = 2

    def __init__(self, sizes: Sizes, reads: Iterable[str], width: int, bias: bool = True) -> None:
        super().__init__(sizes, reads, width)
        self.embed = Pooled(self.sizes, width, bias)

    def forward(self, condition: Condition) -> Tokens:
        return Tokens(self.embed(condition)[:, None])

    def prefix_for(self, width: int) -> nn.Module:
        return Fit(self.width, width)


class Fit(nn.Module):
    """Tokens of one width -> another; nothing where the widths agree."""

    def __init__(self, width: int, wanted: int) -> None:
        super().__init__()
        self.layer = nn.Identity() if width == wanted else nn.Linear(width, wanted)

    def forward(self, tokens: Tokens) -> Tokens:
        return Tokens(self.layer(tokens.value), tokens.mask)
