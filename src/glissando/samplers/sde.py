"""The chapter's reverse SDE handed to torchsde."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from glissando.errors import UserError
from glissando.samplers.base import Point, Progress, Run
from glissando.samplers.ode import Solver
from glissando.samplers.spacing import LogSnrLinear, Spacing

METHODS = ("heun", "midpoint", "euler_heun")  # torchsde's for Stratonovich and diagonal noise


class Sde(Solver):
    """dz = [f z - g² score] dt + g dw between the ends of the spacing, then one step to data.

    It is solved in log(alpha / sigma), in which g² is 2 sigma² on every path and which grows from
    noise to data. Its noise does not depend on z, so Itô's and Stratonovich's readings agree and
    any of torchsde's Stratonovich methods for diagonal noise will do: heun (two evaluations a
    step), midpoint, euler_heun. Needs torchsde.
    """

    def __init__(
        self, steps: int = 50, spacing: Spacing | None = None, method: str = "heun"
    ) -> None:
        super().__init__(steps, LogSnrLinear() if spacing is None else spacing)
        if method not in METHODS:
            raise UserError(f"sampler.method must be one of {', '.join(METHODS)}, not {method}")
        self.method = method

    def integrate(
        self, run: Run, z: Tensor, grid: list[Point], progress: Progress | None
    ) -> Tensor:
        try:
            from torchsde import sdeint  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
        except ImportError as error:
            raise UserError("sampler=sde needs torchsde: pip install torchsde") from error
        ends = self.ends(grid)
        span = float(ends[1] - ends[0])
        if span > 0:
            # A shade long, so that rounding leaves no sliver of a step at the end.
            dt = span / self.steps * (1 + 1e-9)
            noise: Any = Increments(run, z)  # all of torchsde's BaseBrownian that it calls
            path = sdeint(Reverse(run, z), z.flatten(1), ends, bm=noise, method=self.method, dt=dt)
            z = path[-1].reshape(z.shape)
        return self.finish(run, z, grid, progress)


class Reverse:
    """Drift and diffusion as torchsde asks for them; time is log(alpha / sigma), z is flat.

    No ``f`` alone: no method here wants it, and torchsde would call it once just for its shape.
    """

    noise_type = "diagonal"
    sde_type = "stratonovich"

    def __init__(self, run: Run, z: Tensor) -> None:
        self._run, self._shape = run, z.shape

    def f_and_g(self, time: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        at = self._run.at_log_snr(2 * float(time))
        x_0, eps = (e.flatten(1) for e in self._run.denoise(z.reshape(self._shape), at))
        d_alpha, d_sigma = at.per_log_ratio
        # Probability flow less g² score / 2; score = -eps / sigma and g² = 2 sigma² here.
        drift = d_alpha * x_0 + (d_sigma - at.sigma) * eps
        return drift, torch.full_like(z, math.sqrt(2) * at.sigma)

    def g(self, time: Tensor, z: Tensor) -> Tensor:
        at = self._run.at_log_snr(2 * float(time))
        return torch.full_like(z, math.sqrt(2) * at.sigma)


class Increments:
    """The run's Brownian path as torchsde's ``bm``: differences over [start, end], flat."""

    levy_area_approximation = "none"

    def __init__(self, run: Run, z: Tensor) -> None:
        self._run = run
        self.shape, self.dtype, self.device = z.flatten(1).shape, z.dtype, z.device

    def __call__(self, start: Tensor, end: Tensor, **_: bool) -> Tensor:
        first, last = float(start), float(end)
        noise = self._run.between(self._run.at_log_snr(2 * first), self._run.at_log_snr(2 * last))
        return math.sqrt(last - first) * noise.flatten(1)
