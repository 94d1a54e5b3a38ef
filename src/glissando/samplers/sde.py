"""The chapter's reverse SDE handed to torchsde."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from glissando.errors import UserError
from glissando.samplers.base import Point, Progress, Run, Sampler, move, report
from glissando.samplers.spacing import LogSnrLinear, Spacing


class Sde(Sampler):
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
        self.method = method

    def integrate(
        self, run: Run, z: Tensor, grid: list[Point], progress: Progress | None
    ) -> Tensor:
        try:
            from torchsde import sdeint
        except ImportError as error:
            raise UserError("sampler=sde needs torchsde: pip install torchsde") from error
        if not math.isfinite(grid[0].log_snr):
            raise UserError(
                "sampler=sde cannot start at pure noise, where g² is infinite; "
                "use sampler/spacing=log_snr"
            )
        last = grid[-2] if grid[-1].sigma == 0 else grid[-1]
        span = (last.log_snr - grid[0].log_snr) / 2
        if span > 0:
            ends = torch.tensor([grid[0].log_snr, last.log_snr], dtype=torch.float64) / 2
            # A shade long, so that rounding leaves no sliver of a step at the end.
            dt = span / self.steps * (1 + 1e-9)
            noise = Increments(run, z)
            path = sdeint(
                Reverse(run, z), z.flatten(1), ends, bm=noise, method=self.method, dt=dt
            )
            z = path[-1].reshape(z.shape)
        if last is not grid[-1]:
            z = self.step(run, z, last, grid[-1])
        if progress is not None:
            progress(1, 1)
        report(len(grid) - 1 if bool(z.isfinite().all()) else len(grid) - 2, grid)
        return z

    def step(self, run: Run, z: Tensor, t: Point, s: Point) -> Tensor:
        return move(run.denoise(z, t), s)


class Reverse:
    """Drift and diffusion as torchsde asks for them; time is log(alpha / sigma), z is flat."""

    noise_type = "diagonal"
    sde_type = "stratonovich"

    def __init__(self, run: Run, z: Tensor) -> None:
        self._run, self._shape = run, z.shape

    def f_and_g(self, time: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        at = self._run.at_log_snr(2 * float(time))
        x_0, eps = (e.flatten(1) for e in self._run.denoise(z.reshape(self._shape), at))
        per_t = at.d_alpha / at.alpha - at.d_sigma / at.sigma  # d log(alpha / sigma) / dt
        # Probability flow less g² score / 2; score = -eps / sigma and g² = 2 sigma² here.
        drift = at.d_alpha / per_t * x_0 + (at.d_sigma / per_t - at.sigma) * eps
        return drift, torch.full_like(z, math.sqrt(2) * at.sigma)

    def f(self, time: Tensor, z: Tensor) -> Tensor:
        return self.f_and_g(time, z)[0]

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
        noise = self._run.between(
            self._run.at_log_snr(2 * first), self._run.at_log_snr(2 * last)
        )
        return math.sqrt(last - first) * noise.flatten(1)
