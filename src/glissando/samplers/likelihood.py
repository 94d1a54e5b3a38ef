"""Negative log-likelihood by the probability-flow ODE (Song et al. 2021b, section 4.3)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from glissando.diffusion.estimate import Denoise
from glissando.diffusion.path import Path, spread
from glissando.errors import UserError
from glissando.samplers.noise import ClipNoise


class Likelihood:
    """Bits per latent dimension, by RK4 in log-SNR from ``high`` (data) to ``low`` (noise).

    The divergence of the flow is Hutchinson's estimate: the same ``probes`` vectors of random
    signs per clip all along, so it is a smooth function of time, unbiased, and exact for a flow
    whose Jacobian is diagonal. The density that is measured is that of data with noise of
    sigma / alpha = e^(-high / 2) added (0.0067 by default).
    """

    def __init__(
        self, steps: int = 50, low: float = -10.0, high: float = 10.0, probes: int = 1
    ) -> None:
        if steps < 1 or probes < 1:
            raise UserError(
                f"likelihood.steps and .probes must be at least 1, not {steps} and {probes}"
            )
        if not low < high:
            raise UserError(f"likelihood needs low < high, not low={low} and high={high}")
        self.steps, self.low, self.high, self.probes = steps, low, high, probes

    def __call__(self, denoise: Denoise, path: Path, x_0: Tensor, signs: ClipNoise) -> Tensor:
        """(B,) bits per dimension of x_0 (B, C, F, T); ``signs`` gives the probes' randomness."""
        size = x_0[0].numel()
        probes = [signs().sign().to(x_0) for _ in range(self.probes)]
        times = torch.linspace(self.high, self.low, self.steps + 1, dtype=torch.float64).tolist()
        first, last = (path(path.t(torch.tensor([v], dtype=torch.float64))) for v in (self.high, self.low))
        z = spread(first.alpha, x_0) * x_0
        # p(x) = p(alpha x) alpha^size
        nats = size * float(first.alpha.log())
        for here, there in pairwise(times):
            z, gain = self._step(denoise, path, z, here, there, probes)
            nats = nats + gain
        # Normalized latents have unit variance, so at the noise end so much is left of them.
        variance = float(last.sigma**2 + last.alpha**2)
        prior = -(z**2).flatten(1).sum(1) / (2 * variance) - size / 2 * math.log(
            2 * math.pi * variance
        )
        return -(prior + nats) / size / math.log(2)

    def _step(
        self,
        denoise: Denoise,
        path: Path,
        z: Tensor,
        here: float,
        there: float,
        probes: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """One RK4 step of z and of the integral of the divergence."""
        h = there - here
        z_1, d_1 = self._slope(denoise, path, z, here, probes)
        z_2, d_2 = self._slope(denoise, path, z + h / 2 * z_1, here + h / 2, probes)
        z_3, d_3 = self._slope(denoise, path, z + h / 2 * z_2, here + h / 2, probes)
        z_4, d_4 = self._slope(denoise, path, z + h * z_3, there, probes)
        move, gain = z_1 + 2 * (z_2 + z_3) + z_4, d_1 + 2 * (d_2 + d_3) + d_4
        return z + h / 6 * move, h / 6 * gain

    def _slope(
        self, denoise: Denoise, path: Path, z: Tensor, log_snr: float, probes: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """dz / dlog_snr and its divergence (B,)."""
        t = path.t(torch.full((len(z),), log_snr, dtype=torch.float64))
        c = path(t)
        per_t = 2 * (c.d_alpha / c.alpha - c.d_sigma / c.sigma)
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            estimate = denoise(z, t)
            slope = (
                spread(c.d_alpha / per_t, z) * estimate.x_0
                + spread(c.d_sigma / per_t, z) * estimate.eps
            )
            traces = []
            for probe in probes:
                (product,) = torch.autograd.grad(slope, z, probe, retain_graph=True)
                traces.append((product * probe).flatten(1).sum(1))
        return slope.detach(), torch.stack(traces).mean(0)
