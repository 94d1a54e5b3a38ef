"""The probability-flow ODE handed to torchdiffeq's adaptive solvers."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from glissando.errors import UserError
from glissando.samplers.base import Point, Progress, Run, Sampler, move, report
from glissando.samplers.spacing import LogSnrLinear, Spacing

# Levels of the grid, of which only the first and the last with noise are used: so many that the
# one step from there to the data is short on spacings that end in equal steps of t as well.
FINE = 1000
# Of torchdiffeq's methods, those that choose their steps; the others would take a single one.
ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")


class Solver(Sampler):
    """What samplers that leave the steps to a library share: time is log(alpha / sigma)."""

    def ends(self, grid: list[Point]) -> Tensor:
        """log(alpha / sigma) where the library starts and stops, (2,) float64.

        It stops at the last point with noise; data, infinitely far away, is one step from there.
        Raises UserError where the grid starts at pure noise, which is as far in the other
        direction.
        """
        if not math.isfinite(grid[0].log_snr):
            raise UserError(
                "this sampler cannot start at pure noise (log-SNR -inf); "
                "use sampler/spacing=log_snr"
            )
        last = grid[-2] if grid[-1].sigma == 0 else grid[-1]
        return torch.tensor([grid[0].log_snr, last.log_snr], dtype=torch.float64) / 2

    def finish(self, run: Run, z: Tensor, grid: list[Point], progress: Progress | None) -> Tensor:
        """The step to data, if the grid has one, and a look for NaN."""
        if grid[-1].sigma == 0:
            z = self.step(run, z, grid[-2], grid[-1])
        if progress is not None:
            progress(len(grid) - 1, len(grid) - 1)
        report(len(grid) - 1 if bool(z.isfinite().all()) else 0, grid)
        return z

    def step(self, run: Run, z: Tensor, t: Point, s: Point) -> Tensor:
        return move(run.denoise(z, t), s)


class Ode(Solver):
    """dz = x_0 d(alpha) + eps d(sigma) between the ends of the spacing, then one step to data.

    The solver takes its own steps to meet ``rtol`` and ``atol``; ``evaluations`` says afterwards
    how many estimates that took, and so does each clip's json. It waits for the device at each, and
    chooses steps for the batch as a whole, so in another batch a clip comes out the same only to
    those tolerances. Needs torchdiffeq.
    """

    differentiable = False

    def __init__(
        self,
        spacing: Spacing | None = None,
        method: str = "dopri5",
        rtol: float = 1e-4,
        atol: float = 1e-4,
    ) -> None:
        super().__init__(FINE, LogSnrLinear() if spacing is None else spacing)
        if method not in ADAPTIVE:
            raise UserError(f"sampler.method must be one of {', '.join(ADAPTIVE)}, not {method}")
        if not (rtol > 0 and atol > 0):
            raise UserError(f"sampler.rtol and .atol must be above 0, not {rtol} and {atol}")
        self.method, self.rtol, self.atol = method, rtol, atol

    def integrate(
        self, run: Run, z: Tensor, grid: list[Point], progress: Progress | None
    ) -> Tensor:
        try:
            from torchdiffeq import odeint  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
        except ImportError as error:
            raise UserError("sampler=ode needs torchdiffeq: pip install torchdiffeq") from error
        ends = self.ends(grid)

        def slope(time: Tensor, z: Tensor) -> Tensor:
            at = run.at_log_snr(2 * float(time))
            estimate = run.denoise(z, at)
            report(1 if bool(estimate.x_0.isfinite().all()) else 0, [at, at])
            d_alpha, d_sigma = at.per_log_ratio
            return d_alpha * estimate.x_0 + d_sigma * estimate.eps

        if ends[0] < ends[1]:
            tolerance = {"rtol": self.rtol, "atol": self.atol}
            states = cast(
                "Any", odeint(slope, z, ends.to(z.device), method=self.method, **tolerance)
            )
            z = torch.as_tensor(states[-1])
        return self.finish(run, z, grid, progress)
