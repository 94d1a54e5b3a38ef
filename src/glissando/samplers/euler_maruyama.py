"""Euler-Maruyama on the chapter's reverse SDE (Song et al. 2021b)."""

from __future__ import annotations

import math

from torch import Tensor

from glissando.samplers.base import Point, Run, Sampler


class EulerMaruyama(Sampler):
    """dz = [f z - g² score] dt + g dw, backwards in t; f, g and the score frozen over a step.

    f z - g² score = dz/dt of the probability flow - g² score / 2, where score = -eps / sigma and
    the flow is alpha' x_0 + sigma' eps, so no f appears that diverges at alpha = 0. There g² does
    still; a step's g² |dt| is capped at sigma², beyond which a step would overshoot. Weak order 1,
    and it needs many steps: it is here because it is the equation. The last step to t = 0 is x_0.
    """

    def step(self, run: Run, z: Tensor, t: Point, s: Point) -> Tensor:
        estimate = run.denoise(z, t)
        if s.sigma == 0:
            return estimate.x_0
        dt = s.t - t.t
        variance = min(diffusion(t) * -dt, t.sigma**2)
        data = dt * t.d_alpha
        noise = dt * t.d_sigma - variance / (2 * t.sigma)
        z = z + data * estimate.x_0 + noise * estimate.eps
        return z + math.sqrt(variance) * run.between(t, s)


def diffusion(at: Point) -> float:
    """g² = 2 sigma sigma' - 2 (alpha' / alpha) sigma²; infinite at alpha = 0."""
    if at.alpha == 0:
        return math.inf
    return 2 * at.sigma * (at.d_sigma - at.sigma * at.d_alpha / at.alpha)
