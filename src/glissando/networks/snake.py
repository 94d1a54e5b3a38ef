"""The snake activation (Ziyin et al. 2020, arXiv:2006.08195), also in BigVGAN's two parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Snake(nn.Module):
    """x + sin^2(a x) / b per channel of (B, C, T); a and b are stored as logarithms.

    ``two``: b is learned; otherwise it is a, as DAC has it.
    """

    def __init__(self, channels: int, two: bool = True) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels)) if two else None

    def forward(self, x: Tensor) -> Tensor:
        beta = self.alpha if self.beta is None else self.beta
        alpha, beta = self.alpha.exp()[:, None], beta.exp()[:, None]
        return x + (alpha * x).sin().square() / (beta + 1e-9)
