"""What the raw network predicts, as coefficients around it.

D(z) = skip z + out F(inp z; noise) is the denoiser's x_0, and eps_skip z + eps_out F its eps. Both
come in closed form, and so does the training target: dividing by ``out`` or by sigma afterwards is
0/0 at an end of the path and loses float32's digits near it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from glissando.diffusion.path import Coefficients, Path, spread
from glissando.errors import UserError

# |1 / alpha| beyond this makes an epsilon network's x_0 all rounding error; DDPM's own schedule
# ends at 1 / alpha = 157, AudioLDM's at 84 (objective/path=linear_beta at 191).
LARGEST_GAIN = 200.0
# Velocity on a path whose sigma starts like sqrt(t) is infinite at 0 and still learnable here.
SMALLEST_T = 1e-5
# A network's label stays finite at both ends of a path; log-SNR beyond this is beyond float32.
LARGEST_LOG_SNR = 40.0


class Scalings(NamedTuple):
    """Coefficients around the network, each (B,); see the module's docstring."""

    skip: Tensor
    out: Tensor
    inp: Tensor
    noise: Tensor
    eps_skip: Tensor
    eps_out: Tensor


def unit_input(c: Coefficients) -> Tensor:
    """1 on paths that never exceed unit variance, 1 / sqrt(1 + sigma²) on the exploding one."""
    return (c.alpha**2 + c.sigma**2).clamp(min=1).rsqrt()


class Parameterization(ABC):
    """One of epsilon, x_0, v, velocity or EDM."""

    @abstractmethod
    def scalings(self, c: Coefficients) -> Scalings:
        """The coefficients at ``c``."""

    @abstractmethod
    def target(self, c: Coefficients, x_0: Tensor, eps: Tensor) -> Tensor:
        """What F should return for z = alpha x_0 + sigma eps; shapes (B, C, F, T)."""

    def limits(self, path: Path) -> tuple[float, float]:
        """The range of t in which this parameterization is defined on ``path``."""
        return 0.0, path.limit


class X0(Parameterization):
    """F = x_0."""

    def scalings(self, c: Coefficients) -> Scalings:
        zero = torch.zeros_like(c.sigma)
        # At sigma = 0 there is no noise to speak of: eps is 0 there, not 0/0.
        inverse = torch.where(c.sigma > 0, 1 / c.sigma, zero)
        return Scalings(
            zero, zero + 1, unit_input(c), c.noise, eps_skip=inverse, eps_out=-c.alpha * inverse
        )

    def target(self, c: Coefficients, x_0: Tensor, eps: Tensor) -> Tensor:
        return x_0


class Epsilon(Parameterization):
    """F = eps (Ho et al. 2020). Says nothing of x_0 where alpha = 0, so t is capped before it."""

    def scalings(self, c: Coefficients) -> Scalings:
        zero = torch.zeros_like(c.sigma)
        return Scalings(
            skip=1 / c.alpha,
            out=-c.sigma / c.alpha,
            inp=unit_input(c),
            noise=c.noise,
            eps_skip=zero,
            eps_out=zero + 1,
        )

    def target(self, c: Coefficients, x_0: Tensor, eps: Tensor) -> Tensor:
        return eps

    def limits(self, path: Path) -> tuple[float, float]:
        end = torch.tensor(path.end, dtype=torch.float64)
        if path(end).alpha * LARGEST_GAIN >= 1:
            return 0.0, path.limit
        floor = -2 * torch.tensor(LARGEST_GAIN, dtype=torch.float64).log()
        return 0.0, float(path.t(floor))


class V(Parameterization):
    """F = v = alpha eps - sigma x_0 (Salimans & Ho 2022); defined everywhere."""

    def scalings(self, c: Coefficients) -> Scalings:
        power = c.alpha**2 + c.sigma**2
        return Scalings(
            skip=c.alpha / power,
            out=-c.sigma / power,
            inp=unit_input(c),
            noise=c.noise,
            eps_skip=c.sigma / power,
            eps_out=c.alpha / power,
        )

    def target(self, c: Coefficients, x_0: Tensor, eps: Tensor) -> Tensor:
        return spread(c.alpha, x_0) * eps - spread(c.sigma, x_0) * x_0


class Velocity(Parameterization):
    """F = u = dz/dt = alpha' x_0 + sigma' eps (flow matching, Lipman et al. 2022)."""

    def scalings(self, c: Coefficients) -> Scalings:
        turn = c.d_sigma * c.alpha - c.sigma * c.d_alpha
        return Scalings(
            skip=c.d_sigma / turn,
            out=-c.sigma / turn,
            inp=unit_input(c),
            noise=c.noise,
            eps_skip=-c.d_alpha / turn,
            eps_out=c.alpha / turn,
        )

    def target(self, c: Coefficients, x_0: Tensor, eps: Tensor) -> Tensor:
        return spread(c.d_alpha, x_0) * x_0 + spread(c.d_sigma, x_0) * eps

    def limits(self, path: Path) -> tuple[float, float]:
        start = path(torch.zeros((), dtype=torch.float64))
        return (0.0 if start.d_sigma.isfinite() else SMALLEST_T), path.limit


class EDM(Parameterization):
    """Preconditioning of Karras et al. 2022, table 1, carried to any path.

    On z / alpha = x_0 + (sigma / alpha) eps it is theirs; written for z it has no 1 / alpha left
    and so is defined at pure noise too. ``data_std`` is theirs of the data: 1 for normalized
    latents. The network is told log(sigma / alpha) / 4.
    """

    def __init__(self, data_std: float = 1.0) -> None:
        if not data_std > 0:
            raise UserError(f"objective.parameterization.data_std must be above 0, not {data_std}")
        self.data_std = float(data_std)

    def _std(self, c: Coefficients) -> Tensor:
        return torch.sqrt(c.sigma**2 + (c.alpha * self.data_std) ** 2)

    def scalings(self, c: Coefficients) -> Scalings:
        std = self._std(c)
        return Scalings(
            skip=c.alpha * self.data_std**2 / std**2,
            out=c.sigma * self.data_std / std,
            inp=1 / std,
            noise=-c.log_snr.clamp(-LARGEST_LOG_SNR, LARGEST_LOG_SNR) / 8,
            eps_skip=c.sigma / std**2,
            eps_out=-c.alpha * self.data_std / std,
        )

    def target(self, c: Coefficients, x_0: Tensor, eps: Tensor) -> Tensor:
        std = self._std(c)
        kept, lost = c.sigma / (self.data_std * std), c.alpha * self.data_std / std
        return spread(kept, x_0) * x_0 - spread(lost, x_0) * eps
