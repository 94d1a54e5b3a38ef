"""Small layers that several networks use.  Shapes: B batch, N tokens, D features."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from glissando.errors import UserError


class FourierFeatures(nn.Module):
    """(B,) -> (B, dim): [cos, sin] of 2 pi x w, with learned w drawn from a unit normal.

    Any real number will do, best one of order 1, as the parameterizations' noise labels are.
    Order and parameter as in Stable Audio Open. Raises UserError if dim is odd.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim < 2 or dim % 2:
            raise UserError(f"model.noise_dim={dim} must be even and at least 2")
        self.weight = nn.Parameter(torch.randn(dim // 2))

    def forward(self, x: Tensor) -> Tensor:
        # In float32 whatever the network runs in: the phase needs the digits.
        angle = 2 * math.pi * x.float()[:, None] * self.weight.float()
        return torch.cat([angle.cos(), angle.sin()], dim=-1).to(self.weight.dtype)


class FeedForward(nn.Module):
    """(B, N, D) -> (B, N, D) through `expansion * D` hidden features (rounded up to 8).

    `gated` is SwiGLU (Shazeer 2020): value * SiLU(gate), three matrices; otherwise GELU, two.
    """

    def __init__(self, width: int, expansion: float, gated: bool = True, bias: bool = True) -> None:
        super().__init__()
        hidden = 8 * math.ceil(width * expansion / 8)
        self.gated = gated
        self.up = nn.Linear(width, hidden * (2 if gated else 1), bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        if self.gated:
            value, gate = x.chunk(2, dim=-1)
            return self.down(value * fn.silu(gate))
        return self.down(fn.gelu(x, approximate="tanh"))
