"""EDM's stochastic sampler, algorithm 2 (Karras et al. 2022), on any path."""

from __future__ import annotations

import math

from torch import Tensor

from glissando.errors import UserError
from glissando.samplers.base import Point, Run
from glissando.samplers.heun import Heun
from glissando.samplers.spacing import Spacing


class HeunChurn(Heun):
    """Each step first adds a little noise, going back on the path, then takes a Heun step.

    Args:
        churn: S_churn; the added noise raises sigma by churn / steps, at most by sqrt(2) - 1.
        sigma_min, sigma_max: S_tmin and S_tmax, the sigma / alpha between which it does so.
        gain: S_noise, standard deviation of the added noise, a little above 1 if anything.
    """

    def __init__(
        self,
        steps: int = 50,
        spacing: Spacing | None = None,
        churn: float = 40.0,
        sigma_min: float = 0.05,
        sigma_max: float = 50.0,
        gain: float = 1.003,
    ) -> None:
        super().__init__(steps, spacing)
        if not churn >= 0:
            raise UserError(f"sampler.churn must be at least 0, not {churn}")
        self.churn, self.gain = churn, gain
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def step(self, run: Run, z: Tensor, t: Point, s: Point) -> Tensor:
        raise_by = min(self.churn / self.steps, math.sqrt(2) - 1)
        # At pure noise there is nothing to go back to, whatever sigma_max.
        if raise_by > 0 and t.alpha > 0 and self.sigma_min <= t.ratio <= self.sigma_max:
            noisier = run.at_log_snr(t.log_snr - 2 * math.log1p(raise_by))
            added = noisier.alpha * math.sqrt(noisier.ratio**2 - t.ratio**2)
            z = noisier.alpha / t.alpha * z + self.gain * added * run.fresh()
            t = noisier
        return super().step(run, z, t, s)
