"""Spacings: the grid of t in sampling, apart from the path it is laid on.

Ranges are written in sigma / alpha (the sigma of Karras et al. 2022) or log-SNR, so that one
setting means the same noise on every path. Grids are made on the host in float64.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from glissando.diffusion.path import Path
from glissando.errors import UserError


class Spacing(ABC):
    """``spacing(path, steps)`` -> the steps + 1 times, strictly decreasing, data last."""

    def __call__(self, path: Path, steps: int) -> Tensor:
        """(steps + 1,) float64 on the host, the first t the noisiest; the last is usually 0.

        Raises UserError where the grid leaves the path or has fewer levels than asked for.
        """
        if steps < 1:
            raise UserError(f"sampler.steps must be at least 1, not {steps}")
        times = self.times(path, steps)
        if not (times.isfinite().all() and times[-1] >= 0 and times[0] <= path.limit):
            raise UserError(
                f"sampler.spacing reaches t = {float(times[0]):g} ... {float(times[-1]):g}, "
                f"outside this path's 0 ... {path.limit:g}; narrow its range"
            )
        if not (times.diff() < 0).all():
            raise UserError(
                f"sampler.spacing has fewer than sampler.steps={steps} distinct levels on this "
                "path; narrow its range to what the path holds, or ask for fewer steps"
            )
        return times

    @abstractmethod
    def times(self, path: Path, steps: int) -> Tensor:
        """The grid, unchecked."""


NOISIEST = -10.0
"""log-SNR that passes for pure noise where nothing else is said: sigma / alpha = 148."""


def ramp(n: int) -> Tensor:
    """(n,) float64 from 0 to 1; n = 1 gives 0."""
    return torch.linspace(0, 1, n, dtype=torch.float64)


class Polynomial(Spacing):
    """Places 1 to 0 on the path's clock as (1 - i / steps)^power, scaled to [stop, start].

    power 1 is uniform in t on bounded paths (plain flow matching on the rectified one), 2 DDIM's
    quadratic spacing.
    """

    def __init__(self, power: float = 1.0, start: float = 1.0, stop: float = 0.0) -> None:
        if not (power > 0 and 0 <= stop < start <= 1):
            raise UserError(
                "sampler.spacing needs power > 0 and 0 <= stop < start <= 1, not "
                f"power={power}, stop={stop}, start={start}"
            )
        self.power, self.start, self.stop = power, start, stop

    def times(self, path: Path, steps: int) -> Tensor:
        # Flipped, not 1 - ramp, so that the first place is start to the last digit.
        place = ramp(steps + 1).flip(0) ** self.power
        return path.clock(self.stop + (self.start - self.stop) * place)


class LevelSpacing(Spacing):
    """Spacings that lay out log-SNR: ``steps`` levels, then t = 0 as the end of the last step.

    With ``to_data=False`` it is ``steps`` + 1 levels and sampling ends at the last of them,
    returning z there.
    """

    def __init__(self, to_data: bool = True) -> None:
        self.to_data = to_data

    def times(self, path: Path, steps: int) -> Tensor:
        end = float(path(torch.tensor(path.end, dtype=torch.float64)).log_snr)
        wanted = self.log_snr(ramp(steps if self.to_data else steps + 1), end)
        times = path.t(wanted)
        # A bounded path answers what lies beyond it with its end: said, not sampled.
        asked, there = (float(level[0]) for level in (wanted, path(times).log_snr))
        if there - asked > 1e-6:
            raise UserError(
                f"sampler.spacing starts at log-SNR {asked:.4g} (sigma / alpha "
                f"{math.exp(-asked / 2):.4g}), but this path ends at {there:.4g} "
                f"({math.exp(-there / 2):.4g}): narrow sampler.spacing.low or .sigma_max"
            )
        return torch.cat([times, times.new_zeros(1)]) if self.to_data else times

    @abstractmethod
    def log_snr(self, place: Tensor, end: float) -> Tensor:
        """log-SNR at each place on a ramp from 0 (noise) to 1 (data).

        ``end`` is that of what passes for pure noise on the path, -inf where it is.
        """


class LogSnrLinear(LevelSpacing):
    """log-SNR in equal steps from ``low`` to ``high`` (nats).

    ``low`` None is -10, or the path's end where that is cleaner (AudioLDM's is at -8.86).
    """

    def __init__(self, low: float | None = None, high: float = 10.0, to_data: bool = True) -> None:
        super().__init__(to_data)
        if not (NOISIEST if low is None else low) < high:
            raise UserError(f"sampler.spacing needs low < high, not low={low} and high={high}")
        self.low, self.high = low, high

    def log_snr(self, place: Tensor, end: float) -> Tensor:
        low = max(NOISIEST, end) if self.low is None else self.low
        return low + (self.high - low) * place


class SigmaSpacing(LevelSpacing):
    """A range given as sigma / alpha."""

    def __init__(self, sigma_min: float, sigma_max: float, rho: float, to_data: bool) -> None:
        super().__init__(to_data)
        if not rho > 0:
            raise UserError(f"sampler.spacing.rho must be above 0, not {rho}")
        if not 0 < sigma_min < sigma_max:
            raise UserError(
                "sampler.spacing needs 0 < sigma_min < sigma_max, not "
                f"sigma_min={sigma_min} and sigma_max={sigma_max}"
            )
        self.sigma_min, self.sigma_max, self.rho = sigma_min, sigma_max, rho


class Karras(SigmaSpacing):
    """sigma^(1/rho) in equal steps (Karras et al. 2022, equation 5)."""

    def __init__(
        self,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
        to_data: bool = True,
    ) -> None:
        super().__init__(sigma_min, sigma_max, rho, to_data)

    def log_snr(self, place: Tensor, end: float) -> Tensor:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return -2 * self.rho * (high + place * (low - high)).log()


class Exponential(SigmaSpacing):
    """log(sigma) from max to min along ramp^rho, as k-diffusion's ``polyexponential``.

    rho = 1 is exponential spacing, equal steps of log(sigma); Stable Audio Open samples with
    sigma_min 0.3, sigma_max 500, rho 1.
    """

    def __init__(
        self,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 1.0,
        to_data: bool = True,
    ) -> None:
        super().__init__(sigma_min, sigma_max, rho, to_data)

    def log_snr(self, place: Tensor, end: float) -> Tensor:
        low, high = math.log(self.sigma_min), math.log(self.sigma_max)
        return -2 * (low + (1 - place) ** self.rho * (high - low))


class Shifted(Spacing):
    """Another spacing with sigma / alpha multiplied by ``factor``; above 1, more steps in noise.

    On the rectified path t -> factor t / (1 + (factor - 1) t) (Esser et al. 2024, equation 23).
    The first time stays where it is: where its ratio r_0 of sigma to alpha is finite, a ratio r
    becomes factor r / (1 + (factor - 1) r / r_0), so that no path is left at its end.
    """

    def __init__(self, spacing: Spacing, factor: float = 3.0) -> None:
        if not factor > 0:
            raise UserError(f"sampler.spacing.factor must be above 0, not {factor}")
        self.spacing, self.factor = spacing, factor

    def times(self, path: Path, steps: int) -> Tensor:
        times = self.spacing.times(path, steps)
        log_snr = path(times).log_snr
        part = ((log_snr[0] - log_snr[1:]) / 2).exp()  # r / r_0
        shift = math.log(self.factor) - torch.log1p((self.factor - 1) * part)
        return torch.cat([times[:1], path.t(log_snr[1:] - 2 * shift)])


class Listed(Spacing):
    """Times given one by one, as few-step students are trained on; ``steps`` must agree."""

    def __init__(self, given: Sequence[float]) -> None:
        self.given = torch.tensor(list(given), dtype=torch.float64)

    def times(self, path: Path, steps: int) -> Tensor:
        if len(self.given) != steps + 1:
            raise UserError(
                f"sampler.spacing lists {len(self.given)} times, which is sampler.steps="
                f"{len(self.given) - 1}, not {steps}"
            )
        return self.given
