"""Levels: the law of t in training, each as the inverse of its distribution function.

A law maps uniform numbers u (B,) to t (B,). So any law can be drawn independently, stratified
over the batch, or laid out as a fixed grid for validation, by the choice of u alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from torch import Tensor

from glissando.diffusion.path import Path
from glissando.errors import UserError

# Uniform numbers are kept this far from 0 and 1, where normal laws are infinite.
MARGIN = 1e-6


class Levels(ABC):
    """A law of t. ``stratified`` draws one u from each of B equal strata of [0, 1), in random
    order: same law for each clip, far less variance of a batch's mean loss (Kingma et al. 2021).
    """

    def __init__(self, stratified: bool = False) -> None:
        self.stratified = stratified

    @abstractmethod
    def __call__(self, path: Path, u: Tensor, length: Tensor | None = None) -> Tensor:
        """t (B,) for uniform ``u`` (B,) in (0, 1); increasing in u.

        ``length`` (B,) is the number of latent frames of each clip, for laws that heed it.
        """

    def draw(
        self,
        path: Path,
        n: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        length: Tensor | None = None,
    ) -> Tensor:
        """t (n,) float32 at random."""
        u = torch.rand(n, generator=generator, device=device)
        if self.stratified:
            order = torch.randperm(n, generator=generator, device=device)
            u = (order + u) / n
        return self(path, u.clamp(MARGIN, 1 - MARGIN), length)

    def grid(self, path: Path, n: int, length: Tensor | None = None) -> Tensor:
        """t (n,) at the midpoints of n equal strata: the fixed grid of validation."""
        return self(path, (torch.arange(n) + 0.5) / n, length)


def normal_quantile(u: Tensor, mean: float, std: float) -> Tensor:
    return mean + std * cast("Any", torch.special).ndtri(u)  # torch leaves it without types


class Uniform(Levels):
    """Uniform on the path's clock from ``low`` to ``high``, which on bounded paths is t."""

    def __init__(self, low: float = 0.0, high: float = 1.0, stratified: bool = False) -> None:
        super().__init__(stratified)
        if not 0 <= low < high <= 1:
            raise UserError(
                f"objective.levels needs 0 <= low < high <= 1, not low={low} and high={high}"
            )
        self.low, self.high = float(low), float(high)

    def __call__(self, path: Path, u: Tensor, length: Tensor | None = None) -> Tensor:
        return path.clock(self.low + (self.high - self.low) * u)


class LogitNormal(Levels):
    """The path's clock at sigmoid(n), n ~ N(mean, std²) (Esser et al. 2024).

    ``low`` and ``high`` truncate the law to that range of t (renormalized, not clipped).
    """

    def __init__(
        self,
        mean: float = 0.0,
        std: float = 1.0,
        low: float = 0.0,
        high: float = 1.0,
        stratified: bool = False,
    ) -> None:
        super().__init__(stratified)
        if not (std > 0 and 0 <= low < high <= 1):
            raise UserError(
                "objective.levels needs std > 0 and 0 <= low < high <= 1, not "
                f"std={std}, low={low}, high={high}"
            )
        self.mean, self.std = float(mean), float(std)
        self.below, self.above = self._mass(low), self._mass(high)

    def _mass(self, t: float) -> float:
        """P(law without truncation <= t)."""
        if t in (0.0, 1.0):
            return float(t)
        logit = math.log(t) - math.log1p(-t)
        return 0.5 * math.erfc((self.mean - logit) / (self.std * math.sqrt(2)))

    def __call__(self, path: Path, u: Tensor, length: Tensor | None = None) -> Tensor:
        u = self.below + (self.above - self.below) * u
        return path.clock(torch.sigmoid(normal_quantile(u, self.mean, self.std)))


class LogNormal(Levels):
    """log(sigma / alpha) ~ N(mean, std²): Karras et al. 2022 on any path (EDM -1.2, 1.2)."""

    def __init__(self, mean: float = -1.2, std: float = 1.2, stratified: bool = False) -> None:
        super().__init__(stratified)
        if not std > 0:
            raise UserError(f"objective.levels.std must be above 0, not {std}")
        self.mean, self.std = float(mean), float(std)

    def __call__(self, path: Path, u: Tensor, length: Tensor | None = None) -> Tensor:
        return path.t(-2 * normal_quantile(u, self.mean, self.std))


class LogSnrUniform(Levels):
    """log-SNR uniform in [low, high] (nats)."""

    def __init__(self, low: float = -10.0, high: float = 10.0, stratified: bool = False) -> None:
        super().__init__(stratified)
        if not low < high:
            raise UserError(f"objective.levels needs low < high, not low={low}, high={high}")
        self.low, self.high = float(low), float(high)

    def __call__(self, path: Path, u: Tensor, length: Tensor | None = None) -> Tensor:
        return path.t(self.high - (self.high - self.low) * u)


class Shifted(Levels):
    """Another law with sigma / alpha multiplied by a factor that may grow with the length.

    The factor is exp(m), m linear from ``base`` at ``min_length`` latent frames to ``top`` at
    ``max_length`` (Esser et al. 2024, section 5.3.2; Stable Audio's distribution shift: .5, 1.15,
    256, 4096): longer clips keep more of themselves visible at the same t, so they need more
    noise. On the rectified path it is t -> e^m t / (1 + (e^m - 1) t).
    """

    def __init__(
        self,
        levels: Levels,
        base: float = 0.5,
        top: float = 1.15,
        min_length: int = 256,
        max_length: int = 4096,
    ) -> None:
        super().__init__(levels.stratified)
        if not min_length < max_length:
            raise UserError(
                "objective.levels.min_length must be below max_length, not "
                f"{min_length} and {max_length}"
            )
        self.levels = levels
        self.base, self.slope = float(base), (top - base) / (max_length - min_length)
        self.min_length = min_length

    def __call__(self, path: Path, u: Tensor, length: Tensor | None = None) -> Tensor:
        if length is None:
            raise UserError(
                "objective.levels shifts with the clip's length, which is not known here; "
                "use objective/levels=logit_normal"
            )
        shift = self.base + self.slope * (length.to(u) - self.min_length)
        log_snr = path(self.levels(path, u, length)).log_snr
        return path.t(log_snr - 2 * shift)
