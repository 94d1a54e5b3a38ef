"""The variance-exploding path in the time of Karras et al. 2022: t is sigma itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from glissando.diffusion.path import Coefficients, Path
from glissando.errors import UserError

# The network's label log(sigma)/4 at t = 0 would be -inf; no spacing or law of levels that is in
# use goes below this sigma without being 0.
SMALLEST_SIGMA = 1e-8


class VarianceExploding(Path):
    """alpha = 1, sigma = t, with t in [0, inf).

    ``end`` is the sigma that passes for pure noise (80 in Karras et al. 2022, 500 in Stable
    Audio); spacings and levels given in sigma or log-SNR do not read it. Its clock is the angle
    atan(sigma), so uniform means here what it means on the cosine path. The network is told
    log(sigma) / 4.
    """

    limit = float("inf")

    def __init__(self, end: float = 80.0) -> None:
        if not end > 0:
            raise UserError(f"objective.path.end is a sigma and must be above 0, not {end}")
        self.end = float(end)

    def __call__(self, t: Tensor) -> Coefficients:
        return Coefficients(
            t=t,
            alpha=torch.ones_like(t),
            sigma=t,
            d_alpha=torch.zeros_like(t),
            d_sigma=torch.ones_like(t),
            log_snr=-2 * t.log(),
            noise=t.clamp(min=SMALLEST_SIGMA).log() / 4,
        )

    def t(self, log_snr: Tensor) -> Tensor:
        return torch.exp(-log_snr / 2)

    def clock(self, place: Tensor) -> Tensor:
        return torch.tan(place * math.atan(self.end))
