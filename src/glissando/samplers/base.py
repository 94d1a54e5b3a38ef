"""What every sampler shares: the loop from noise to data over a grid of times."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from glissando.diffusion.estimate import Denoise, Estimate
from glissando.diffusion.path import Path
from glissando.errors import UserError
from glissando.samplers.spacing import Polynomial, Spacing

Progress = Callable[[int, int], None]


class Point(NamedTuple):
    """One time of the grid: the path's coefficients as plain floats.

    The grid is known before the first step, so what depends on it is computed on the host in
    float64 and no step waits for the device.
    """

    t: float
    alpha: float
    sigma: float
    d_alpha: float
    d_sigma: float
    log_snr: float

    @property
    def ratio(self) -> float:
        """sigma / alpha: the sigma of Karras et al. 2022; infinite at pure noise."""
        return self.sigma / self.alpha if self.alpha > 0 else math.inf

    @property
    def per_log_ratio(self) -> tuple[float, float]:
        """Derivatives of alpha and sigma by log(alpha / sigma), a time all solvers can share."""
        per_t = self.d_alpha / self.alpha - self.d_sigma / self.sigma
        return self.d_alpha / per_t, self.d_sigma / per_t


class Fresh(Protocol):
    """Unit noise of z's shape for samplers that add some; see ``samplers.noise.ClipNoise``."""

    def __call__(self) -> Tensor: ...

    def between(self, start: float, end: float) -> Tensor:
        """Increment of a fixed Brownian path between two places in [0, 1], scaled to unit."""
        ...


class Run:
    """One call of a sampler: its denoiser, its path and what it remembers."""

    def __init__(
        self, denoise: Denoise, path: Path, batch: int, fresh: Fresh | None, memory: int
    ) -> None:
        self._denoise, self._path, self._batch, self._fresh = denoise, path, batch, fresh
        self.history: deque[tuple[Point, Tensor]] = deque(maxlen=memory)
        self.corrected: Tensor | None = None
        self.evaluations = 0

    def denoise(self, z: Tensor, at: Point) -> Estimate:
        """The estimate at z (B, C, F, T)."""
        self.evaluations += 1
        return self._denoise(z, torch.full((self._batch,), at.t, dtype=torch.float64))

    def remember(self, t: Point, x_0: Tensor) -> None:
        """Keeps an estimate for multistep samplers, newest last.

        Not one made at pure noise: in log-SNR, where they extrapolate, it is infinitely far away.
        """
        if math.isfinite(t.log_snr):
            self.history.append((t, x_0))

    def at(self, t: float) -> Point:
        """The path between two times of the grid."""
        return points(self._path, torch.tensor([t], dtype=torch.float64))[0]

    def at_log_snr(self, log_snr: float) -> Point:
        """The path where it has this log-SNR."""
        return self.at(float(self._path.t(torch.tensor(log_snr, dtype=torch.float64))))

    def fresh(self) -> Tensor:
        """New unit noise (B, C, F, T)."""
        return self._source()()

    def between(self, t: Point, s: Point) -> Tensor:
        """The noise (B, C, F, T), unit, that the seed's Brownian path holds between two times.

        The path runs in ``place``, which is in [0, 1] on every diffusion path.
        """
        return self._source().between(place(s), place(t))

    def _source(self) -> Fresh:
        if self._fresh is None:
            raise ValueError("this sampler adds noise: give fresh=ClipNoise(seeds, shape)")
        return self._fresh


def place(at: Point) -> float:
    """Where a time is on the Brownian path: 0 is data, 1 is noise.

    r / (1 + r) of r = (sigma / alpha)^(1/4): the steps of all usual grids are then of like size,
    so that a shallow tree tells them apart.
    """
    sigma, alpha = at.sigma**0.25, at.alpha**0.25
    return sigma / (sigma + alpha)


def points(path: Path, times: Tensor) -> list[Point]:
    """The path at ``times`` (N,), float64 on the host."""
    c = path(times)
    fields = (c.t, c.alpha, c.sigma, c.d_alpha, c.d_sigma, c.log_snr)
    return [Point(*row) for row in torch.stack(fields, 1).numpy().tolist()]


def move(estimate: Estimate, s: Point) -> Tensor:
    """z at ``s`` if the estimate were exact: alpha_s x_0 + sigma_s eps.

    One formula for Euler on the exploding path, DDIM on variance-preserving ones and the flow
    step on the rectified one. At sigma = 0 it is x_0 itself.
    """
    if s.sigma == 0:
        return estimate.x_0  # alpha is 1 there
    return s.alpha * estimate.x_0 + s.sigma * estimate.eps


class Sampler(ABC):
    """From unit noise to data in ``steps`` steps along ``spacing`` (uniform in t by default).

    A subclass writes ``step``. ``memory`` is how many earlier estimates it wants kept.
    ``evaluations`` is how often the last call ran ``denoise``. ``differentiable`` says whether x_0
    is a sum of noise and estimates with factors that depend on neither, as it is unless the steps
    are chosen by looking at z; autograd then keeps no tensor of the sampler's own.
    """

    memory: int = 0
    differentiable: bool = True
    evaluations: int = 0

    def __init__(self, steps: int = 50, spacing: Spacing | None = None) -> None:
        if steps < 1:
            raise UserError(f"sampler.steps must be at least 1, not {steps}")
        if int(steps) != steps:
            raise UserError(f"sampler.steps must be a whole number, not {steps}")
        self.steps = steps
        self.spacing = Polynomial() if spacing is None else spacing

    def __call__(
        self,
        denoise: Denoise,
        path: Path,
        noise: Tensor,
        fresh: Fresh | None = None,
        progress: Progress | None = None,
        init: Tensor | None = None,
        strength: float = 1.0,
    ) -> Tensor:
        """x_0 (B, C, F, T) from unit ``noise`` (B, C, F, T), in the dtype of the noise.

        Half precision is lifted to float32. ``progress(done, steps)`` is called after each step.
        ``init`` (B, C, F, T) starts from data noised to ``strength`` in [0, 1] instead (SDEdit,
        Meng et al. 2022; see ``remaining``). Raises UserError, after the last step,
        where z became NaN or infinite, with the step at which it first did.
        """
        self.evaluations = 0
        times = self.spacing(path, self.steps)
        if strength == 1:
            init = None
        if init is not None:
            times = remaining(path, times, strength)
        dtype = torch.promote_types(noise.dtype, torch.float32)
        if init is not None and len(times) == 1:  # strength 0
            return init.to(noise.device, dtype)
        grid = points(path, times)
        run = Run(denoise, path, len(noise), fresh, self.memory)
        # Handed on without a name: one kept here would hold the first z through every step.
        z = self.integrate(run, begun(noise.to(dtype), init, grid[0]), grid, progress)
        self.evaluations = run.evaluations
        return z

    def integrate(
        self, run: Run, z: Tensor, grid: list[Point], progress: Progress | None
    ) -> Tensor:
        """z from the first to the last point of the grid, step by step."""
        steps = len(grid) - 1
        worst = torch.full((), steps, device=z.device)
        for done, (t, s) in enumerate(pairwise(grid)):
            z = self.step(run, z, t, s)
            # A sum is finite only if all its terms are; kept on the device, read once at the end.
            worst = torch.where(z.sum().isfinite(), worst, worst.clamp(max=done))
            if progress is not None:
                progress(done + 1, steps)
        report(worst, grid)
        return z

    @abstractmethod
    def step(self, run: Run, z: Tensor, t: Point, s: Point) -> Tensor:
        """z (B, C, F, T) carried from ``t`` to ``s`` (nearer the data)."""


def begun(noise: Tensor, init: Tensor | None, at: Point) -> Tensor:
    """z (B, C, F, T) at the first point of the grid: noise alone, or on ``init``."""
    if init is None:
        return at.sigma * noise
    return at.alpha * init.to(noise) + at.sigma * noise


def report(worst: Tensor | int, grid: list[Point]) -> None:
    """Raise for the first step (0-based) after which z was not finite, if there was one."""
    steps, step = len(grid) - 1, int(worst)
    if step < steps:
        raise UserError(
            f"the network gave NaN or infinity at step {step + 1} of {steps} "
            f"(t = {grid[step].t:.4g}): a broken checkpoint, or half precision overflowing; "
            "try trainer.precision=32, or a lower guidance.scale"
        )


# Strength spans these log-SNRs, from faint hiss to nothing of the input left, on every path.
CLEANEST, NOISIEST = 10.0, -10.0
LEAST = 0.01  # of log-SNR in the first step of an edit


def remaining(path: Path, times: Tensor, strength: float) -> Tensor:
    """The part of the grid ``times`` (N + 1,) that an edit of this strength runs through.

    The first time is where log-SNR has gone ``strength`` of the way from 10 to -10, or the grid's
    own first time if that is cleaner. Strength 0 leaves one time, so no step.
    """
    if not 0 <= strength <= 1:
        raise UserError(f"strength must be between 0 and 1, not {strength}")
    if strength == 0:
        return times[-1:]
    level = torch.tensor(CLEANEST + strength * (NOISIEST - CLEANEST), dtype=torch.float64)
    start = path.t(level).clamp(max=times[0])[None]
    # A time of the grid beside the start would make a step of no length, by which multistep
    # samplers divide and in which a Brownian path has no increment.
    later = path(times).log_snr - path(start).log_snr > LEAST
    return torch.cat([start, times[later]])
