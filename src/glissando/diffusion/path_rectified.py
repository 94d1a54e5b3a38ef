"""The straight path of rectified flow (Liu et al. 2022) and flow matching (Lipman et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from glissando.diffusion.path import Coefficients, Path


class Rectified(Path):
    """alpha = 1 - t, sigma = t; its velocity eps - x_0 is constant along a straight line."""

    def __call__(self, t: Tensor) -> Coefficients:
        return Coefficients(
            t=t,
            alpha=1 - t,
            sigma=t,
            d_alpha=-torch.ones_like(t),
            d_sigma=torch.ones_like(t),
            log_snr=2 * (torch.log1p(-t) - t.log()),
            noise=t,
        )

    def t(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-log_snr / 2)
