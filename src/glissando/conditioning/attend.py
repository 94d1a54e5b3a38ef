"""Attention itself, used by networks and mechanisms alike."""

from __future__ import annotations

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from glissando.errors import UserError


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention without an (N, N) mask.

    Args:
        query: (B, heads, N, D).
        key, value: (B, kv heads, S, D), where kv heads divides heads.
        mask: (B, S), True = a key that may be attended to; None = all.

    Returns (B, N, heads * D). A clip none of whose keys is real gets zeros, not NaN.
    """
    if query.dtype != value.dtype:  # normalized queries and keys are float32 under autocast
        query, key = query.to(value.dtype), key.to(value.dtype)
    grouped = query.shape[1] != key.shape[1]
    if mask is None:
        out = fn.scaled_dot_product_attention(query, key, value, enable_gqa=grouped)
        return out.transpose(1, 2).flatten(2)
    some = mask.any(dim=1)
    keys = (mask | ~some[:, None])[:, None, None]
    out = fn.scaled_dot_product_attention(query, key, value, attn_mask=keys, enable_gqa=grouped)
    return out.transpose(1, 2).flatten(2) * some[:, None, None]


class HeadNorm(nn.Module):
    """RMS norm of queries or keys (B, heads, N, D), in float32 (Dehghani et al. 2023)."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(head_dim))

    def forward(self, x: Tensor) -> Tensor:
        return fn.rms_norm(x.float(), self.weight.shape, self.weight.float(), 1e-6)


def check_heads(width: int, heads: int, kv_heads: int) -> None:
    """Raises UserError unless heads divides width and kv_heads divides heads."""
    if heads < 1 or width % heads:
        raise UserError(f"model.width={width} is not divisible by model.heads={heads}")
    if kv_heads < 1 or heads % kv_heads:
        raise UserError(f"model.heads={heads} is not divisible by kv_heads={kv_heads}")
