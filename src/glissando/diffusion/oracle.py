"""Data whose best denoiser is known in closed form: a mixture of Gaussians.

What every sampler, parameterization and likelihood here is proven against; also a stand-in for a
trained network when a sampler is to be tried alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from glissando.diffusion.estimate import Estimate
from glissando.diffusion.path import Path, spread


class GaussianMixture:
    """x_0 ~ sum_k weights_k N(means_k, diag stds_k²), independent over clips.

    Args:
        path: how it is noised.
        weights: (K,), summing to 1.
        means: (K, C, F, T).
        stds: (K, C, F, T), above 0.
    """

    def __init__(self, path: Path, weights: Tensor, means: Tensor, stds: Tensor) -> None:
        self.path, self.weights, self.means, self.stds = path, weights, means, stds

    def __call__(self, z: Tensor, t: Tensor) -> Estimate:
        """E[x_0 | z_t = z] and E[eps | z_t = z] for z (B, C, F, T), t (B,): a ``Denoise``."""
        c = self.path(t)
        alpha, sigma = spread(c.alpha, z)[:, None], spread(c.sigma, z)[:, None]
        variance = (alpha * self.stds) ** 2 + sigma**2
        centred = z[:, None] - alpha * self.means
        chance = self._joint(centred, variance).softmax(1)[..., None, None, None]
        x_0 = self.means + alpha * self.stds**2 / variance * centred
        eps = sigma / variance * centred  # (z - alpha x_0) / sigma without its 0/0
        return Estimate((chance * x_0).sum(1), (chance * eps).sum(1))

    def log_prob(self, z: Tensor, t: Tensor) -> Tensor:
        """log p_t(z) (B,) in nats."""
        c = self.path(t)
        alpha, sigma = spread(c.alpha, z)[:, None], spread(c.sigma, z)[:, None]
        variance = (alpha * self.stds) ** 2 + sigma**2
        return self._joint(z[:, None] - alpha * self.means, variance).logsumexp(1)

    def _joint(self, centred: Tensor, variance: Tensor) -> Tensor:
        """log (weight_k N(z; ...)) (B, K)."""
        nats = centred**2 / variance + variance.log() + math.log(2 * math.pi)
        return self.weights.log() - nats.sum((2, 3, 4)) / 2

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """x_0 (n, C, F, T)."""
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, *self.means.shape[1:], generator=generator, dtype=self.means.dtype)
        return self.means[component] + self.stds[component] * noise

    def flow_map(self, z: Tensor, t: float, s: float) -> Tensor:
        """The exact solution at ``s`` of the probability-flow ODE from z at ``t``; K = 1 only."""
        if len(self.weights) != 1:
            raise ValueError("only a single Gaussian's flow is known in closed form")
        c = self.path(torch.tensor([t, s], dtype=torch.float64))
        mean, std = self.means, self.stds
        width = [((a * std) ** 2 + b**2).sqrt() for a, b in zip(c.alpha, c.sigma, strict=True)]
        return c.alpha[1] * mean + width[1] / width[0] * (z - c.alpha[0] * mean)
