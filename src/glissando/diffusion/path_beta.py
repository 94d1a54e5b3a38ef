"""Variance-preserving paths given by beta(t): alpha² = exp(-B), sigma² = 1 - alpha², B = ∫ beta."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from glissando.diffusion.path import Coefficients, Path
from glissando.errors import UserError


class VariancePreserving(Path):
    """All that follows from B(t) and beta(t) = B'(t), with B(0) = 0."""

    @abstractmethod
    def total(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """B(t) and beta(t), in the shape of ``t``."""

    @abstractmethod
    def inverse(self, total: Tensor) -> Tensor:
        """The t at which B(t) = ``total``."""

    def __call__(self, t: Tensor) -> Coefficients:
        total, beta = self.total(t)
        # expm1 keeps sigma's digits near t = 0, where 1 - alpha² would cancel.
        alpha, sigma = torch.exp(-total / 2), torch.sqrt(-torch.expm1(-total))
        return Coefficients(
            t=t,
            alpha=alpha,
            sigma=sigma,
            d_alpha=-beta * alpha / 2,
            d_sigma=beta * alpha**2 / (2 * sigma),  # infinite at t = 0
            log_snr=-torch.expm1(total).log(),
            noise=t,
        )

    def t(self, log_snr: Tensor) -> Tensor:
        return self.inverse(softplus(-log_snr)).clamp(0, 1)


class LinearBeta(VariancePreserving):
    """beta(t) = low + (high - low) t, the continuous DDPM (Ho et al. 2020, Song et al. 2021).

    The defaults are AudioLDM's .0015 to .0195 a step times its 1,000 steps; DDPM's are 0.1, 20.
    alpha(1) is small but not 0 (0.0052 here), so sampling starts from a slightly wrong prior.
    """

    def __init__(self, low: float = 1.5, high: float = 19.5) -> None:
        if not 0 < low < high:
            raise UserError(
                "objective.path.low and .high need 0 < low < high, not "
                f"{low} and {high} (beta per unit of t: per-step betas times the steps)"
            )
        self.low, self.slope = float(low), float(high - low)

    def total(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.low * t + self.slope * t**2 / 2, self.low + self.slope * t

    def inverse(self, total: Tensor) -> Tensor:
        # The root of the quadratic, in the form that does not cancel near 0.
        return 2 * total / (self.low + torch.sqrt(self.low**2 + 2 * self.slope * total))


class DiscreteBeta(VariancePreserving):
    """A table of per-step betas, as DDPM and latent diffusion were trained on.

    Step k of N (0-based, the ``timestep`` of those systems) is t = (k + 1) / N, where
    alpha² = prod (1 - beta_i) exactly; in between, B is linear, so any t may be asked for.
    """

    def __init__(self, betas: Sequence[float] | Tensor) -> None:
        table = torch.as_tensor(betas, dtype=torch.float64)
        if table.ndim != 1 or len(table) < 1 or not ((table > 0) & (table < 1)).all():
            raise UserError("objective.path.betas must be a list of numbers in (0, 1)")
        self.steps = len(table)
        self.table = torch.cat([table.new_zeros(1), -torch.log1p(-table).cumsum(0)])

    @classmethod
    def linear(cls, low: float, high: float, steps: int = 1000) -> DiscreteBeta:
        """Betas evenly spaced (DDPM: 1e-4 to 0.02)."""
        return cls(torch.linspace(low, high, steps, dtype=torch.float64))

    @classmethod
    def scaled_linear(
        cls, low: float = 0.0015, high: float = 0.0195, steps: int = 1000
    ) -> DiscreteBeta:
        """Square roots of beta evenly spaced: latent diffusion's "linear", and so AudioLDM's."""
        roots = torch.linspace(low**0.5, high**0.5, steps, dtype=torch.float64)
        return cls(roots**2)

    def _table_like(self, t: Tensor) -> Tensor:
        if self.table.device != t.device:  # once: later calls find it there
            self.table = self.table.to(t.device)
        return self.table

    def total(self, t: Tensor) -> tuple[Tensor, Tensor]:
        table = self._table_like(t)
        place = t.to(torch.float64) * self.steps
        cell = place.floor().clamp(0, self.steps - 1).long()
        rise = table[cell + 1] - table[cell]
        total = table[cell] + (place - cell) * rise
        return total.to(t.dtype), (rise * self.steps).to(t.dtype)

    def inverse(self, total: Tensor) -> Tensor:
        table = self._table_like(total)
        wanted = total.to(torch.float64)
        cell = (torch.searchsorted(table, wanted, right=True) - 1).clamp(0, self.steps - 1)
        part = (wanted - table[cell]) / (table[cell + 1] - table[cell])
        return ((cell + part) / self.steps).to(total.dtype)
