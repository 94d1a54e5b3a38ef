"""UniPC (Zhao et al. 2023): a predictor and a corrector that share one evaluation."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from glissando.errors import UserError
from glissando.samplers.base import Point, Run, Sampler
from glissando.samplers.spacing import Spacing

Past = list[tuple[Point, Tensor]]


class UniPC(Sampler):
    """Data prediction with B_2(h) = e^h - 1; one evaluation a step.

    ``order`` p in {1, 2, 3} is the predictor's; with the corrector the whole is of order p + 1.
    The corrector of a step runs at the start of the next, when the estimate there is known.
    """

    def __init__(self, steps: int = 50, spacing: Spacing | None = None, order: int = 2) -> None:
        super().__init__(steps, spacing)
        if order not in (1, 2, 3):
            raise UserError(f"sampler.order must be 1, 2 or 3, not {order}")
        self.order = self.memory = order

    def step(self, run: Run, z: Tensor, t: Point, s: Point) -> Tensor:
        x_0 = run.denoise(z, t).x_0
        past = list(run.history)[::-1]  # newest first
        if past and run.corrected is not None:
            z = advance(run.corrected, t, past, landed=x_0)
        run.remember(t, x_0)
        run.corrected = z if run.history else None
        if s.sigma == 0:
            return x_0
        if not run.history:  # from pure noise: the first-order step
            return s.sigma / t.sigma * z + s.alpha * x_0
        return advance(z, s, list(run.history)[::-1])


def advance(z: Tensor, s: Point, past: Past, landed: Tensor | None = None) -> Tensor:
    """z at ``s`` from z at the newest of ``past`` (equations 3, 7 and 9 of the paper).

    ``landed`` is the estimate at ``s`` itself, once known: then this is the corrector.
    """
    (t, x_0), older = past[0], past[1:]
    h = (s.log_snr - t.log_snr) / 2
    places = [(point.log_snr - t.log_snr) / 2 / h for point, _ in older]
    rises = [x - x_0 for _, x in older]
    if landed is not None:
        places, rises = [*places, 1.0], [*rises, landed - x_0]
    z = s.sigma / t.sigma * z - s.alpha * math.expm1(-h) * x_0
    for place, rise, weight in zip(places, rises, weights(places, h), strict=True):
        z = z - s.alpha * math.expm1(-h) * weight / place * rise
    return z


def weights(places: list[float], h: float) -> list[float]:
    """How much each difference counts: R_p(h) a = phi_p(h) / B_2(h), for distinct ``places``.

    A single one counts 1/2 whatever h is, as the paper and its authors' code take it.
    """
    if len(places) <= 1:
        return [0.5] * len(places)
    wanted: list[float] = []
    phi, factorial = math.expm1(-h) / -h - 1, 1
    for power in range(1, len(places) + 1):
        factorial *= power
        wanted.append(phi * factorial / math.expm1(-h))
        phi = phi / -h - 1 / (factorial * (power + 1))
    x = torch.tensor(places, dtype=torch.float64)
    matrix = torch.stack([x**power for power in range(len(places))])
    right = torch.tensor(wanted, dtype=torch.float64)
    return cast("Any", torch.linalg).solve(matrix, right).tolist()  # torch leaves it without types
