"""DPM-Solver++(2M) (Lu et al. 2022, algorithm 2) and its SDE form: two-step, in log-SNR."""

from __future__ import annotations

import math

from torch import Tensor

from glissando.errors import UserError
from glissando.samplers.base import Point, Run, Sampler
from glissando.samplers.spacing import Spacing


class DPMpp2M(Sampler):
    """Second order at one evaluation a step; first order in the first and in a last step to 0.

    Best on a spacing that is smooth in log-SNR: on a grid uniform in t its order falls to about 1.
    """

    memory = 1

    def step(self, run: Run, z: Tensor, t: Point, s: Point) -> Tensor:
        x_0 = run.denoise(z, t).x_0
        mixed = extrapolate(run, x_0, t, s)
        run.remember(t, x_0)
        return exponential_step(run, z, mixed, t, s)


class DPMpp2MSDE(Sampler):
    """DPM-Solver++(2M) for the reverse SDE, midpoint form; eta 0 is DPMpp2M, 1 the whole SDE."""

    memory = 1

    def __init__(self, steps: int = 50, spacing: Spacing | None = None, eta: float = 1.0) -> None:
        super().__init__(steps, spacing)
        self.eta = positive(eta)

    def step(self, run: Run, z: Tensor, t: Point, s: Point) -> Tensor:
        x_0 = run.denoise(z, t).x_0
        mixed = extrapolate(run, x_0, t, s)
        run.remember(t, x_0)
        return exponential_step(run, z, mixed, t, s, self.eta)


def positive(eta: float) -> float:
    """``eta``, the share of the reverse SDE's noise; raises UserError below 0."""
    if not 0 <= eta < math.inf:
        raise UserError(f"sampler.eta must be at least 0 and finite, not {eta}")
    return eta


def extrapolate(run: Run, x_0: Tensor, t: Point, s: Point) -> Tensor:
    """x_0 at the middle of the step from ``t`` to ``s``, from this and the last estimate."""
    if not run.history or s.sigma == 0:
        return x_0
    last, before = run.history[-1]
    weight = (s.log_snr - t.log_snr) / (t.log_snr - last.log_snr) / 2
    return (1 + weight) * x_0 - weight * before


def exponential_step(
    run: Run, z: Tensor, x_0: Tensor, t: Point, s: Point, eta: float = 0.0
) -> Tensor:
    """The exact solution from ``t`` to ``s`` for a constant x_0; at s = 0 it is x_0 itself.

    With h the step in log(alpha / sigma): sigma_s / sigma_t e^(-eta h) z
    + alpha_s (1 - e^(-(1 + eta) h)) x_0 + sigma_s sqrt(1 - e^(-2 eta h)) noise.
    """
    if s.sigma == 0:
        return x_0
    h = (s.log_snr - t.log_snr) / 2
    gain = -s.alpha * math.expm1(-(1 + eta) * h)
    if eta == 0:
        return s.sigma / t.sigma * z + gain * x_0
    shrink = s.sigma / t.sigma * math.exp(-eta * h)
    spread = s.sigma * math.sqrt(-math.expm1(-2 * eta * h))
    return shrink * z + gain * x_0 + spread * run.between(t, s)
