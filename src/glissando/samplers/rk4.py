"""The classical fourth-order Runge-Kutta method on the probability-flow ODE."""

from __future__ import annotations

from torch import Tensor

from glissando.samplers.base import Point, Run, Sampler, move


class RK4(Sampler):
    """Fourth order, four evaluations a step; a last step to t = 0 is one Euler step.

    In t, with dz/dt = alpha' x_0 + sigma' eps.
    """

    def step(self, run: Run, z: Tensor, t: Point, s: Point) -> Tensor:
        if s.sigma == 0:
            return move(run.denoise(z, t), s)
        h, middle = s.t - t.t, run.at((t.t + s.t) / 2)
        total = latest = slope(run, z, t)
        for at, stride, weight in ((middle, h / 2, 2), (middle, h / 2, 2), (s, h, 1)):
            latest = slope(run, z + stride * latest, at)
            total = total + weight * latest
        return z + h / 6 * total


def slope(run: Run, z: Tensor, at: Point) -> Tensor:
    """dz/dt (B, C, F, T) of the probability flow."""
    estimate = run.denoise(z, at)
    return at.d_alpha * estimate.x_0 + at.d_sigma * estimate.eps
