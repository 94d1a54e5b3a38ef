"""Self-attention with rotary positions.  Shapes: B batch, N tokens, D features."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from glissando.conditioning.attend import HeadNorm, attend, check_heads
from glissando.conditioning.base import Tokens, join


class Rotary(NamedTuple):
    """Cosine and sine of every token's rotation angles, (N, R / 2) each, float32."""

    cos: Tensor
    sin: Tensor


@lru_cache(maxsize=32)
def rotary(
    rows: int, columns: int, prefix: int, dim: int, base: float, device: torch.device
) -> Rotary:
    """Axial rotary positions (Su et al. 2021) of a grid of tokens, row after row.

    Half of the angles turn with the row and half with the column; with one row all turn with the
    column, which is the 1-D form. `prefix` tokens that come first all stand at position 0 (they are
    a set, not a row) and the grid's columns then count from 1, so that a single one is where Stable
    Audio Open has its prepended token.

    Args:
        dim: R, how many features of a head turn (even); the rest stay.
    """
    # Tensors made in inference mode could not be used in training afterwards.
    with torch.inference_mode(False), torch.no_grad():
        pairs = dim // 2
        of_row = pairs // 2 if rows > 1 else 0
        row = torch.arange(rows, device=device, dtype=torch.float32).repeat_interleave(columns)
        column = torch.arange(columns, device=device, dtype=torch.float32).repeat(rows)
        column = column + (prefix > 0)
        angles = torch.cat(
            [
                position[:, None] * _frequencies(count, base, device)
                for position, count in ((row, of_row), (column, pairs - of_row))
            ],
            dim=1,
        )
        angles = torch.cat([angles.new_zeros(prefix, pairs), angles])
        return Rotary(angles.cos(), angles.sin())


def _frequencies(count: int, base: float, device: torch.device) -> Tensor:
    steps = torch.arange(count, device=device, dtype=torch.float32)
    return base ** (-steps / max(count, 1))


def rotate(x: Tensor, table: Rotary) -> Tensor:
    """x (B, heads, N, D) with its first R features turned: pairs are (i, i + R / 2).

    Computed in float32 at least, returned in the type of x, dense whatever x is a view of.
    """
    return _Turn.apply(x, table.cos, table.sin)


class _Turn(torch.autograd.Function):
    """One operation whose gradient is the turn back, so that nothing of x is kept for it.

    Written out in slices it is half as slow again, most of it in the gradients of the slices.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        half = cos.shape[-1]
        rest = cos.new_ones(len(cos), x.shape[-1] - 2 * half)
        # Of mixed types each operation would convert anew.
        y = x.to(torch.promote_types(x.dtype, cos.dtype))
        turned = y * torch.cat([cos, cos, rest], dim=-1)  # whole rows, then the others of the pairs
        turned[..., :half].addcmul_(y[..., half : 2 * half], sin, value=-1)
        turned[..., half : 2 * half].addcmul_(y[..., :half], sin)
        return turned.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _Turn.apply(grad, cos, -sin), None, None


class SelfAttention(nn.Module):
    """Bidirectional attention of tokens among themselves.

    Args:
        kv_heads: key/value heads, a divisor of heads; None is as many as heads.
        qk_norm: RMS-normalize queries and keys per head (Dehghani et al. 2023).

    Raises UserError unless heads divides width and kv_heads divides heads.
    """

    def __init__(
        self, width: int, heads: int, kv_heads: int | None = None, qk_norm: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads = heads, heads if kv_heads is None else kv_heads
        check_heads(width, self.heads, self.kv_heads)
        head_dim = width // heads
        self.sizes = [width, self.kv_heads * head_dim, self.kv_heads * head_dim]
        self.query_key_value = nn.Linear(width, sum(self.sizes), bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm_query = HeadNorm(head_dim) if qk_norm else nn.Identity()
        self.norm_key = HeadNorm(head_dim) if qk_norm else nn.Identity()

    def forward(
        self,
        x: Tensor,
        positions: Rotary | None,
        mask: Tensor | None,
        prefix: Tokens | None = None,
    ) -> Tensor:
        """x (B, N, D); `mask` (B, N) True = may be attended to, None = all.

        `prefix`: P more tokens that are attended to and do not attend; `positions` then has them
        in front.
        """
        tokens = Tokens(x, mask) if prefix is None else join([prefix, Tokens(x, mask)])
        parts = self.query_key_value(tokens.value).split(self.sizes, dim=-1)
        query, key, value = (
            part.unflatten(-1, (heads, -1)).transpose(1, 2)
            for part, heads in zip(parts, (self.heads, self.kv_heads, self.kv_heads), strict=True)
        )
        query, key = self.norm_query(query), self.norm_key(key)
        if positions is not None:
            query, key = rotate(query, positions), rotate(key, positions)
        query = query[:, :, -x.shape[1] :]
        return self.out(attend(query, key, value, tokens.mask))
