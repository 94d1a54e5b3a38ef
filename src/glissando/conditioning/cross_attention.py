"""Cross-attention: in every block the latent's tokens attend to the condition's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor, nn

from glissando.condition import Condition, Sizes
from glissando.conditioning.attend import HeadNorm, attend, check_heads
from glissando.conditioning.base import Embed, Mechanism, Tokens, join, zero
from glissando.conditioning.keep import kept


class CrossAttention(Mechanism):
    """All tokens it reads, projected to one width and put in one row, are keys and values.

    Order plays no part: the tokens carry no position of ours. One instance per sequence (two
    entries in `conditioning=`) gives each sequence a sublayer of its own, as AudioLDM2 does. Keys
    and values without the noise level are computed once per clip inside `keep.keeping()`.

    Args:
        context: width of the projected tokens; None is the network's.
        kv_heads: key/value heads; None is as many as query heads.
        deep: project entries by a two-layer MLP without bias (Stable Audio Open), not by one layer.
        shared: one projection for all entries, which must be of one width (Stable Audio Open).
        attend_padding: attend to padding tokens as well, as published Stable Audio Open weights
            expect; then padding changes the output.
        qk_norm: normalize queries and keys per head.
    """

    noise_rank: ClassVar = 3

    def __init__(
        self,
        sizes: Sizes,
        reads: Iterable[str],
        width: int,
        context: int | None = None,
        kv_heads: int | None = None,
        deep: bool = False,
        shared: bool = False,
        attend_padding: bool = False,
        qk_norm: bool = False,
    ) -> None:
        super().__init__(sizes, reads, context or width)
        self.embed = Embed(self.sizes, self.width, deep, shared)
        self.kv_heads = kv_heads
        self.attend_padding = attend_padding
        self.qk_norm = qk_norm

    def forward(self, condition: Condition) -> Tokens:
        return kept(self, tuple(condition[n] for n in self.reads), lambda: self._read(condition))

    def _read(self, condition: Condition) -> Tokens:
        tokens = join(self.embed(condition))
        return Tokens(tokens.value) if self.attend_padding else tokens

    def sublayer_for(self, width: int, heads: int) -> nn.Module:
        kv_heads = heads if self.kv_heads is None else self.kv_heads
        return CrossAttend(width, heads, self.width, kv_heads, self.qk_norm)


class CrossAttend(nn.Module):
    """One block's cross-attention: x (B, N, D) attends to `Tokens`; zero when new."""

    def __init__(
        self, width: int, heads: int, context: int, kv_heads: int, qk_norm: bool = False
    ) -> None:
        super().__init__()
        check_heads(width, heads, kv_heads)
        head_dim = width // heads
        self.heads, self.kv_heads = heads, kv_heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(context, 2 * kv_heads * head_dim, bias=False)
        self.out = zero(nn.Linear(width, width, bias=False))
        self.norm_query = HeadNorm(head_dim) if qk_norm else nn.Identity()
        self.norm_key = HeadNorm(head_dim) if qk_norm else nn.Identity()

    def keys_values(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """(B, kv heads, S, head dim) twice; they depend on the condition alone."""
        key, value = self.key_value(tokens.value).chunk(2, dim=-1)
        key, value = (x.unflatten(-1, (self.kv_heads, -1)).transpose(1, 2) for x in (key, value))
        return self.norm_key(key), value

    def forward(self, x: Tensor, tokens: Tokens) -> Tensor:
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = kept(self, (tokens.value,), lambda: self.keys_values(tokens))
        return self.out(attend(self.norm_query(query), key, value, tokens.mask))
