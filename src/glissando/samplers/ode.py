"""The probability-flow ODE handed to torchdiffeq's adaptive solvers."""

from __future__ import annotations

import torch
from torch import Tensor

from glissando.errors import UserError
from glissando.samplers.base import Point, Progress, Run, Sampler, move, report
from glissando.samplers.rk4 import slope
from glissando.samplers.spacing import LogSnrLinear, Spacing


class Ode(Sampler):
    """dz/dt = alpha' x_0 + sigma' eps between the ends of the spacing, then one step to data.

    The solver takes its own steps to meet ``rtol`` and ``atol``; ``evaluations`` says afterwards
    how many it needed. It waits for the device at each of them. Needs torchdiffeq.
    """

    def __init__(
        self,
        spacing: Spacing | None = None,
        method: str = "dopri5",
        rtol: float = 1e-4,
        atol: float = 1e-4,
    ) -> None:
        super().__init__(2, LogSnrLinear() if spacing is None else spacing)
        self.method, self.rtol, self.atol = method, rtol, atol

    def integrate(
        self, run: Run, z: Tensor, grid: list[Point], progress: Progress | None
    ) -> Tensor:
        try:
            from torchdiffeq import odeint
        except ImportError as error:
            raise UserError("sampler=ode needs torchdiffeq: pip install torchdiffeq") from error
        last = grid[-2] if grid[-1].sigma == 0 else grid[-1]
        if last is not grid[0]:
            ends = torch.tensor([grid[0].t, last.t], dtype=torch.float64, device=z.device)
            try:
                z = odeint(
                    lambda t, y: slope(run, y, run.at(float(t))),
                    z,
                    ends,
                    method=self.method,
                    rtol=self.rtol,
                    atol=self.atol,
                )[-1]
            except AssertionError as error:  # its step size fell to 0, or became NaN
                if "underflow" not in str(error) and "non-finite" not in str(error):
                    raise
                report(0, grid)
        if last is not grid[-1]:
            z = self.step(run, z, last, grid[-1])
        if progress is not None:
            progress(1, 1)
        report(len(grid) - 1 if bool(z.isfinite().all()) else len(grid) - 2, grid)
        return z

    def step(self, run: Run, z: Tensor, t: Point, s: Point) -> Tensor:
        return move(run.denoise(z, t), s)
