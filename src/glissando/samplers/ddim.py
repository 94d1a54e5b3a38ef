"""DDIM with noise (Song et al. 2021a), which on every path is also Euler ancestral."""

from __future__ import annotations

import math

from torch import Tensor

from glissando.errors import UserError
from glissando.samplers.base import Point, Run, Sampler
from glissando.samplers.spacing import Spacing


class DDIM(Sampler):
    """Steps to less noise than asked for, then adds fresh noise up to it.

    eta 0 is Euler, eta 1 draws from the exact posterior q(z_s | z_t, x_0): DDPM's ancestral
    sampling on a variance-preserving path, k-diffusion's ``euler_ancestral`` on the exploding one.
    First order.
    """

    def __init__(self, steps: int = 50, spacing: Spacing | None = None, eta: float = 0.0) -> None:
        super().__init__(steps, spacing)
        if not 0 <= eta <= 1:  # more noise than the posterior's may exceed sigma_s itself
            raise UserError(f"sampler.eta of DDIM must be between 0 and 1, not {eta}")
        self.eta = eta

    def step(self, run: Run, z: Tensor, t: Point, s: Point) -> Tensor:
        estimate = run.denoise(z, t)
        if s.sigma == 0:
            return estimate.x_0
        posterior = s.sigma * math.sqrt(1 - (s.ratio / t.ratio) ** 2)
        added = self.eta * posterior
        kept = math.sqrt(s.sigma**2 - added**2)
        z = s.alpha * estimate.x_0 + kept * estimate.eps
        return z + added * run.between(t, s) if added > 0 else z
