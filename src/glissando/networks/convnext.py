"""ConvNeXt blocks over time, as Vocos stacks them (Siuzdak 2023, arXiv:2306.00814)."""

from __future__ import annotations

from torch import Tensor, nn


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a two-layer MLP over channels, with layer scale.

    (B, D, T) -> (B, D, T); ``kernel`` must be odd.
    """

    def __init__(self, width: int, expansion: int = 3, kernel: int = 7, scale: float = 0.1) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up = nn.Linear(width, expansion * width)
        self.act = nn.GELU()
        self.down = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(self.norm.weight.new_full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).mT)
        y = self.down(self.act(self.up(y)))
        return x + (self.scale * y).mT


class Backbone(nn.Module):
    """Embedding convolution, ``depth`` ConvNeXt blocks, final norm: (B, in, T) -> (B, width, T)."""

    def __init__(
        self, channels: int, width: int, depth: int, expansion: int = 3, kernel: int = 7
    ) -> None:
        super().__init__()
        self.embed = nn.Conv1d(channels, width, kernel, padding=kernel // 2)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(width, expansion) for _ in range(depth)))
        self.final = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x).mT).mT
        return self.final(self.blocks(x).mT).mT
