"""Weightings of the loss: w(log-SNR) on |D - x_0|², the same meaning for every parameterization.

D - x_0 = out (F - target), so the loss is computed on the network's output with w out², which
stays finite where out = 0.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from glissando.errors import UserError


class Weighting(nn.Module):
    """A law w; a module because one of them learns."""

    def on_output(self, log_snr: Tensor, out: Tensor) -> Tensor:
        """The weight (B,) on |F - target|², for ``out`` (B,) of the parameterization."""
        return self(log_snr) * out**2

    def balance(self, loss: Tensor, log_snr: Tensor) -> Tensor:
        """The last word on the weighted loss (B,); the identity but for learned weightings."""
        return loss


class Given(Weighting):
    """A weighting that is a formula of log-SNR."""

    @abstractmethod
    def forward(self, log_snr: Tensor) -> Tensor:
        """w (B,) on |D - x_0|²."""


class Unit(Weighting):
    """Plain squared error of the network's output: w = 1 / out²."""

    def on_output(self, log_snr: Tensor, out: Tensor) -> Tensor:
        return torch.ones_like(out)


class MinSNR(Given):
    """w = min(SNR, gamma) (Hang et al. 2023): clean clips do not crowd out noisy ones."""

    def __init__(self, gamma: float = 5.0) -> None:
        super().__init__()
        if not gamma > 0:
            raise UserError(f"objective.weighting.gamma must be above 0, not {gamma}")
        self.gamma = float(gamma)

    def forward(self, log_snr: Tensor) -> Tensor:
        return log_snr.clamp(max=math.log(self.gamma)).exp()


class EDMWeight(Given):
    """w = SNR + 1 / data_std² (Karras et al. 2022, table 1), 1 / out² of their preconditioning."""

    def __init__(self, data_std: float = 1.0) -> None:
        super().__init__()
        if not data_std > 0:
            raise UserError(f"objective.weighting.data_std must be above 0, not {data_std}")
        self.data_std = float(data_std)

    def forward(self, log_snr: Tensor) -> Tensor:
        return log_snr.exp() + self.data_std**-2


class Sigmoid(Given):
    """sigmoid(bias - log-SNR) on |eps error|² (Kingma & Gao 2023; Hoogeboom et al. 2024).

    On |D - x_0|² that is e^log_snr sigmoid(bias - log_snr) = e^bias sigmoid(log_snr - bias).
    """

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        self.bias = float(bias)

    def forward(self, log_snr: Tensor) -> Tensor:
        return math.exp(self.bias) * torch.sigmoid(log_snr - self.bias)


class Learned(Weighting):
    """EDM2's uncertainty (Karras et al. 2024, section 2.3): loss / e^u + u, u learned of log-SNR.

    Where the inner weighting leaves a loss of e^u, its gradient is made 1: no level dominates.
    At the start u = 0. The bare loss is in ``Denoiser.errors``; this one is not comparable between
    steps.
    """

    def __init__(self, weighting: Weighting, features: int = 128) -> None:
        super().__init__()
        self.weighting = weighting
        self.freqs: Tensor
        self.phases: Tensor
        # Fixed random Fourier features of log(sigma/alpha)/4, from a generator of their own so
        # that making a weighting does not move the global random state.
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("freqs", 2 * math.pi * torch.randn(features, generator=generator))
        self.register_buffer("phases", 2 * math.pi * torch.rand(features, generator=generator))
        self.gains = nn.Parameter(torch.zeros(features))

    def on_output(self, log_snr: Tensor, out: Tensor) -> Tensor:
        return self.weighting.on_output(log_snr, out)

    def uncertainty(self, log_snr: Tensor) -> Tensor:
        """u (B,)."""
        angle = log_snr.clamp(-40, 40)[:, None] / 8 * self.freqs + self.phases
        return math.sqrt(2) * torch.cos(angle) @ self.gains

    def balance(self, loss: Tensor, log_snr: Tensor) -> Tensor:
        u = self.uncertainty(log_snr)
        return loss * torch.exp(-u) + u
