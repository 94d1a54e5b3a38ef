"""Paths from data to noise: z_t = alpha_t x_0 + sigma_t eps, and what follows from alpha and sigma.

t = 0 is data. On bounded paths t = 1 is noise; on the variance-exploding path t is sigma itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor


class Coefficients(NamedTuple):
    """The path at the times ``t``; every field has the shape of ``t``, usually (B,).

    ``log_snr`` is log(alpha² / sigma²), +inf at the data end where sigma = 0 and -inf where
    alpha = 0. ``noise`` is what a network is told of the noise level, a finite number.
    """

    t: Tensor
    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor
    log_snr: Tensor
    noise: Tensor

    @property
    def drift(self) -> Tensor:
        """f in the forward SDE dz = f z dt + g dw (Song et al. 2021); -inf where alpha = 0."""
        return self.d_alpha / self.alpha

    @property
    def diffusion(self) -> Tensor:
        """g² in the forward SDE: 2 sigma sigma' - 2 f sigma²; infinite where alpha = 0."""
        return 2 * self.sigma * self.d_sigma - 2 * self.drift * self.sigma**2

    def broadcast(self, like: Tensor) -> Coefficients:
        """Every field (B,) as (B, 1, ..., 1), to multiply ``like`` (B, ...)."""
        return Coefficients(*(spread(field, like) for field in self))


def spread(value: Tensor, like: Tensor) -> Tensor:
    """(B,) as (B, 1, ..., 1) in the device and dtype of ``like`` (B, ...).

    The copy from host to device is a few bytes and not blocking, so the device is not waited for.
    """
    value = value.to(like.device, like.dtype, non_blocking=True)
    return value.reshape(-1, *[1] * (like.ndim - 1))


def mix(c: Coefficients, x_0: Tensor, eps: Tensor) -> Tensor:
    """z_t = alpha x_0 + sigma eps, for x_0 and eps (B, C, F, T)."""
    return spread(c.alpha, x_0) * x_0 + spread(c.sigma, x_0) * eps


def score(c: Coefficients, x_0: Tensor, z: Tensor) -> Tensor:
    """The chapter's grad log p_t(z) = (alpha E[x_0 | z] - z) / sigma²; z is (B, C, F, T)."""
    return (spread(c.alpha, z) * x_0 - z) / spread(c.sigma, z) ** 2


def flow(c: Coefficients, x_0: Tensor, eps: Tensor) -> Tensor:
    """dz/dt of the probability-flow ODE, alpha' x_0 + sigma' eps; shapes (B, C, F, T).

    The same thing as f z - g² score / 2, without its division by sigma.
    """
    return spread(c.d_alpha, x_0) * x_0 + spread(c.d_sigma, x_0) * eps


class Path(ABC):
    """A law of alpha and sigma over t.

    ``limit`` is the largest legal t, ``end`` the t that stands for pure noise.
    """

    end: float = 1.0
    limit: float = 1.0

    @abstractmethod
    def __call__(self, t: Tensor) -> Coefficients:
        """Coefficients at ``t`` (any shape) in [0, limit], in the dtype and device of ``t``."""

    @abstractmethod
    def t(self, log_snr: Tensor) -> Tensor:
        """The inverse: the time at which the path has this ``log_snr``; infinities are legal."""

    def clock(self, place: Tensor) -> Tensor:
        """t at a place from 0 (data) to 1 (``end``) at which "uniform" is sensible on this path."""
        return place * self.end
