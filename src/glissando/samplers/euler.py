"""Euler's method, which is DDIM without noise (Song et al. 2021a)."""

from __future__ import annotations

from torch import Tensor

from glissando.samplers.base import Point, Run, Sampler, move


class Euler(Sampler):
    """First order, one evaluation a step."""

    def step(self, run: Run, z: Tensor, t: Point, s: Point) -> Tensor:
        return move(run.denoise(z, t), s)
