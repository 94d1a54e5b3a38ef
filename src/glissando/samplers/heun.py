"""Heun's method: EDM's algorithm 1 on any path (Karras et al. 2022)."""

from __future__ import annotations

from torch import Tensor

from glissando.samplers.base import Point, Run, Sampler, move


class Heun(Sampler):
    """Second order, two evaluations a step but for a last step to t = 0, which takes one.

    dz = x_0 d(alpha) + eps d(sigma), so the trapezoid over d(alpha) and d(sigma) needs no
    derivative of the path. On the exploding path d(alpha) = 0 and it is EDM's algorithm 1.
    """

    def step(self, run: Run, z: Tensor, t: Point, s: Point) -> Tensor:
        here = run.denoise(z, t)
        guess = move(here, s)
        if s.sigma == 0:
            return guess
        d_alpha, d_sigma = (s.alpha - t.alpha) / 2, (s.sigma - t.sigma) / 2
        # Summed before the second call, which so need not keep the first estimate beside it.
        half = z + d_alpha * here.x_0 + d_sigma * here.eps
        del here
        there = run.denoise(guess, s)
        return half + d_alpha * there.x_0 + d_sigma * there.eps
