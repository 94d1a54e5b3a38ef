"""Negative log-likelihood by the probability-flow ODE (Song et al. 2021b, section 4.3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from glissando.diffusion.estimate import Denoise
from glissando.diffusion.path import Path
from glissando.errors import UserError
from glissando.samplers.base import Run


class Likelihood:
    """Bits per latent dimension, by RK4 from log-SNR ``high`` (data) to ``low`` (noise).

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

    def __call__(
        self, denoise: Denoise, path: Path, x_0: Tensor, signs: Callable[[], Tensor]
    ) -> Tensor:
        """(B,) bits per dimension of x_0 (B, C, F, T); ``signs`` gives the probes.

        Each call of ``signs`` is (B, C, F, T) noise, such as ``ClipNoise``; its signs are used.
        Raises UserError where the path does not reach ``low`` or ``high``.
        """
        size = x_0[0].numel()
        probes = [signs().sign().to(x_0) for _ in range(self.probes)]
        levels = torch.linspace(self.high, self.low, self.steps + 1, dtype=torch.float64) / 2
        run = Run(denoise, path, len(x_0), None, 0)
        first, last = (run.at_log_snr(2 * float(levels[i])) for i in (0, -1))
        if abs(first.log_snr - self.high) + abs(last.log_snr - self.low) > 1e-6:
            raise UserError(
                f"low={self.low} or high={self.high} of the likelihood is beyond this path, whose "
                f"log-SNR reaches {last.log_snr:.3g} ... {first.log_snr:.3g}"
            )
        z = first.alpha * x_0
        # p(x) = p(alpha x) alpha^size
        nats = size * math.log(first.alpha)
        for here, there in pairwise(levels.numpy().tolist()):
            z, gain = step(run, z, here, there, probes)
            nats = nats + gain
        # Normalized latents have unit variance, so at the noise end so much is left of them.
        variance = last.sigma**2 + last.alpha**2
        prior = -(z**2).flatten(1).sum(1) / (2 * variance) - size / 2 * math.log(
            2 * math.pi * variance
        )
        return -(prior + nats) / size / math.log(2)


def step(
    run: Run, z: Tensor, here: float, there: float, probes: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """z and the integral of the divergence (B,) over one RK4 step in log(alpha / sigma)."""
    h = there - here
    z_1, d_1 = slope(run, z, here, probes)
    z_2, d_2 = slope(run, z + h / 2 * z_1, here + h / 2, probes)
    z_3, d_3 = slope(run, z + h / 2 * z_2, here + h / 2, probes)
    z_4, d_4 = slope(run, z + h * z_3, there, probes)
    return (
        z + h / 6 * (z_1 + 2 * (z_2 + z_3) + z_4),
        h / 6 * (d_1 + 2 * (d_2 + d_3) + d_4),
    )


def slope(run: Run, z: Tensor, log_ratio: float, probes: list[Tensor]) -> tuple[Tensor, Tensor]:
    """dz / dlog(alpha / sigma) and the estimate of its divergence (B,)."""
    at = run.at_log_snr(2 * log_ratio)
    d_alpha, d_sigma = at.per_log_ratio
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        estimate = run.denoise(z, at)
        change = d_alpha * estimate.x_0 + d_sigma * estimate.eps
        traces: list[Tensor] = []
        for probe in probes:
            (product,) = torch.autograd.grad(change, z, probe, retain_graph=True)
            traces.append((product * probe).flatten(1).sum(1))
    return change.detach(), torch.stack(traces).mean(0)
