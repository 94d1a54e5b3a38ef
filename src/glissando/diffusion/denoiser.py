"""The denoiser: a network made to estimate x_0, whatever it predicts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glissando.condition import Condition
from glissando.diffusion.estimate import Estimate
from glissando.diffusion.parameterization import Parameterization, Scalings
from glissando.diffusion.path import Coefficients, Path, mix, spread
from glissando.diffusion.weighting import Unit, Weighting


class Denoiser(nn.Module):
    """``network(z (B, C, F, T), noise (B,), condition, mask=...)`` -> (B, C, F, T), wrapped.

    ``limits`` is the range of t in which the pair (path, parameterization) is defined. Times
    beyond it are evaluated at its edge; ``Objective.notes`` says so in words.
    """

    def __init__(
        self,
        network: nn.Module,
        path: Path,
        parameterization: Parameterization,
        weighting: Weighting | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.path = path
        self.parameterization = parameterization
        self.weighting = Unit() if weighting is None else weighting
        self.limits = parameterization.limits(path)

    def forward(
        self, z: Tensor, t: Tensor, condition: Condition, mask: Tensor | None = None
    ) -> Estimate:
        """The estimate at z (B, C, F, T) and t (B,), t on any device; mask (B, T), True = real."""
        return self.estimate(z, t, self.output(z, t, condition, mask))

    def output(
        self, z: Tensor, t: Tensor, condition: Condition, mask: Tensor | None = None
    ) -> Tensor:
        """The network's own prediction F (B, C, F, T), in the dtype of ``z``.

        Guidances that are published in the space of the network's output work on this.
        """
        return self._run(z, self._at(t)[1], condition, mask)

    def estimate(self, z: Tensor, t: Tensor, output: Tensor) -> Estimate:
        """x_0 and eps of a prediction F (B, C, F, T)."""
        _, s = self._at(t)
        x_0 = spread(s.skip, z) * z + spread(s.out, z) * output
        eps = spread(s.eps_skip, z) * z + spread(s.eps_out, z) * output
        return Estimate(x_0, eps)

    def loss(
        self,
        x_0: Tensor,
        eps: Tensor,
        t: Tensor,
        condition: Condition,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The weighted loss (B,) at z = alpha x_0 + sigma eps: mean over C, F and real T."""
        error, weight, c = self._weighted(x_0, eps, t, condition, mask)
        return self.weighting.balance(weight * error, c.log_snr)

    def errors(
        self,
        x_0: Tensor,
        eps: Tensor,
        t: Tensor,
        condition: Condition,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The squared error (B,) of the network's output, unweighted: for validation."""
        return self._weighted(x_0, eps, t, condition, mask)[0]

    def _weighted(
        self, x_0: Tensor, eps: Tensor, t: Tensor, condition: Condition, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Coefficients]:
        c, s = self._at(t)
        output = self._run(mix(c, x_0, eps), s, condition, mask)
        square = (output - self.parameterization.target(c, x_0, eps)) ** 2
        weight = self.weighting.on_output(c.log_snr, s.out)
        return mean_over_real(square, mask), weight.to(x_0), c

    def _at(self, t: Tensor) -> tuple[Coefficients, Scalings]:
        c = self.path(t.clamp(*self.limits))
        return c, self.parameterization.scalings(c)

    def _run(self, z: Tensor, s: Scalings, condition: Condition, mask: Tensor | None) -> Tensor:
        noise = s.noise.to(z.device, z.dtype, non_blocking=True)
        # Under autocast the network may answer in bfloat16; the sum with z must not.
        return self.network(spread(s.inp, z) * z, noise, condition, mask=mask).to(z.dtype)


def mean_over_real(square: Tensor, mask: Tensor | None) -> Tensor:
    """(B, C, F, T) -> (B,), the mean over all but the batch, without the frames mask (B, T) hides.

    A clip with no real frame gives 0.
    """
    if mask is None:
        return square.flatten(1).mean(1)
    frames = square.mean((1, 2))
    kept = mask.to(frames)
    # where, not a product: what a network writes into padding may be NaN.
    return torch.where(mask, frames, 0).sum(1) / kept.sum(1).clamp(min=1)
