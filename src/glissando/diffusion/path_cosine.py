"""The cosine path of v-diffusion (Salimans & Ho 2022): an arc of a quarter circle."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from glissando.diffusion.path import Coefficients, Path

QUARTER = math.pi / 2


class Cosine(Path):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2); variance preserving, alpha(1) = 0."""

    def __call__(self, t: Tensor) -> Coefficients:
        # cos(pi/2) is not 0 in floating point (it is negative in float32); sin(0) is.
        alpha, sigma = torch.sin(QUARTER * (1 - t)), torch.sin(QUARTER * t)
        return Coefficients(
            t=t,
            alpha=alpha,
            sigma=sigma,
            d_alpha=-QUARTER * sigma,
            d_sigma=QUARTER * alpha,
            log_snr=2 * (alpha.log() - sigma.log()),
            noise=t,
        )

    def t(self, log_snr: Tensor) -> Tensor:
        return torch.atan(torch.exp(-log_snr / 2)) / QUARTER
