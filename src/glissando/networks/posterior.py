"""What an encoder says of a latent: a diagonal Gaussian."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Posterior(NamedTuple):
    """q(z | x) = N(mean, std^2), both (B, C, T)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def split(cls, parameters: Tensor) -> Posterior:
        """(B, 2C, T) network output -> Posterior, std = softplus(.) + 1e-4 as in Stable Audio."""
        mean, raw = parameters.float().chunk(2, dim=1)
        return cls(mean, F.softplus(raw) + 1e-4)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One reparameterized draw (B, C, T)."""
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + self.std * noise

    def kl(self) -> Tensor:
        """KL(q || N(0, 1)) in nats, summed over channels, averaged over batch and time (scalar).

        Kingma and Welling 2014, appendix B. Stable Audio's code leaves out the factor 1/2: a
        weight published there is half the weight here.
        """
        variance = self.std.square()
        per_element = 0.5 * (self.mean.square() + variance - variance.log() - 1)
        return per_element.sum(1).mean()
