"""A Gaussian pulled towards the unit one: the bottleneck of a VAE."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from glissando.networks.bottlenecks.base import Bottleneck


class Posterior(NamedTuple):
    """q(z | x) = N(mean, std^2), both (B, C, ...)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def split(cls, parameters: Tensor) -> Posterior:
        """(B, 2C, ...) network output -> Posterior, std = softplus(.) + 1e-4 as in Stable Audio."""
        mean, raw = parameters.float().chunk(2, dim=1)
        return cls(mean, F.softplus(raw) + 1e-4)

    @property
    def codes(self) -> None:
        """A Gaussian has none."""
        return None

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One reparameterized draw (B, C, ...)."""
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + self.std * noise

    def kl(self) -> Tensor:
        """KL(q || N(0, 1)) in nats, summed over channels, averaged over all else (scalar).

        Kingma and Welling 2014, appendix B. Stable Audio's code leaves out the factor 1/2: a
        weight published there is half the weight here. Latent diffusion sums the KL and
        the distances over a whole map: a weight published there, 1e-6, is here divided by the
        values of the map that a point of the latent stands for. AudioLDM sums the distances alone:
        its weight, 1000, is here divided by the values of the map and by C.
        """
        variance = self.std.square()
        per_element = 0.5 * (self.mean.square() + variance - variance.log() - 1)
        return per_element.sum(1).mean()

    def penalties(self) -> dict[str, Tensor]:
        """``kl`` alone."""
        return {"kl": self.kl()}


class KL(Bottleneck):
    """Mean and deviation of every latent: 2C inputs, no weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels, self.inputs = channels, 2 * channels

    def forward(self, raw: Tensor) -> Posterior:
        return Posterior.split(raw)
