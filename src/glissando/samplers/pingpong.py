"""Ping-pong sampling of consistency models (Song et al. 2023, algorithm 1)."""

from __future__ import annotations

from torch import Tensor

from glissando.samplers.base import Point, Run, Sampler


class PingPong(Sampler):
    """Jump to x_0, noise it afresh to the next level, and so on: for few-step students.

    On an ordinary denoiser, whose x_0 is a mean and not a sample, it makes blurred data.
    """

    def step(self, run: Run, z: Tensor, t: Point, s: Point) -> Tensor:
        x_0 = run.denoise(z, t).x_0
        return x_0 if s.sigma == 0 else s.alpha * x_0 + s.sigma * run.fresh()
