"""Attention itself, used by networks and mechanisms alike."""

from __future__ import annotations

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from glissando.errors import UserError

# Up to so many scores a head, a processor does attention in bfloat16 by plain products: 1.1 to 3
# times as fast as torch's fused kernel (benchmarks/networks.py --only kernels), the more the fewer.
SHORT = 512**2


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention without an (N, N) mask, nor (N, N) scores beyond `SHORT`.

    Args:
        query: (B, heads, N, D).
        key, value: (B, kv heads, S, D), where kv heads divides heads.
        mask: (B, S), True = a key that may be attended to; None = all.

    Returns (B, N, heads * D). A clip none of whose keys is real gets zeros, not NaN.
    """
    if query.dtype != value.dtype:  # normalized queries and keys are float32 under autocast
        query, key = query.to(value.dtype), key.to(value.dtype)
    if mask is None:
        return _attention(query, key, value).transpose(1, 2).flatten(2)
    some = mask.any(dim=1)
    keys = (mask | ~some[:, None])[:, None, None]
    return _attention(query, key, value, keys).transpose(1, 2).flatten(2) * some[:, None, None]


def _attention(query: Tensor, key: Tensor, value: Tensor, keys: Tensor | None = None) -> Tensor:
    """(B, heads, N, D); `keys` (B, 1, 1, S) as `mask` above, with a real one in every clip."""
    groups = query.shape[1] // key.shape[1]
    short = query.shape[2] * key.shape[2] <= SHORT
    if not short or query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return fn.scaled_dot_product_attention(query, key, value, keys, enable_gqa=groups > 1)
    if groups > 1:
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    scores = query * query.shape[-1] ** -0.5 @ key.mT
    if keys is not None:
        scores = scores + torch.zeros_like(keys, dtype=scores.dtype).masked_fill(~keys, -torch.inf)
    return scores.softmax(dim=-1) @ value


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
