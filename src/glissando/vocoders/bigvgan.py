"""BigVGAN (Lee et al. 2022, arXiv:2206.04658): HiFi-GAN's generator with periodic activations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from glissando.errors import UserError
from glissando.networks.antialias import AntiAliased
from glissando.networks.snake import Snake
from glissando.representations.stft import STFT

_LARGEST = 8  # rate of a stage, where there is a choice


class BigVGAN(nn.Module):
    """Log magnitudes (N, F, T) -> waveform (N, T hop).

    Each stage is a transposed convolution, which halves the channels, and then the mean of residual
    blocks of several ``kernels`` (HiFi-GAN, Kong et al. 2020, section 2.2). As version 2 of the
    published code the last convolution has no bias and no tanh follows it; nothing clips it either,
    for a clipped sample has no gradient. Weights start as PyTorch starts them, which keeps the
    level at any width (the published deviation of .01 suits 1536 channels).

    Args:
        freqs: F. stft: of the spectrum; its hop is what the rates multiply to.
        width: channels before the first stage; 1536 in the published large models, 512 in base.
        rates: samples made of one, stage by stage; None: the largest divisors up to 8 (``rates``).
        kernels, dilations: of the residual blocks.
        antialias: activations at twice the rate (``AntiAliased``).

    Raises UserError for rates that do not multiply to the hop, and for more stages than ``width``
    can be halved in.
    """

    def __init__(
        self,
        freqs: int,
        stft: STFT,
        width: int = 1536,
        rates: Sequence[int] | None = None,
        kernels: Sequence[int] = (3, 7, 11),
        dilations: Sequence[int] = (1, 3, 5),
        antialias: bool = True,
    ) -> None:
        super().__init__()
        rates = factors(stft.hop) if rates is None else rates
        if math.prod(rates) != stft.hop:
            raise UserError(
                f"model.rates={list(rates)} make {math.prod(rates)} samples of a frame, not "
                f"{stft.hop}: set model.rates={factors(stft.hop)} or model.rates=null"
            )
        if width % 2 ** len(rates):
            raise UserError(
                f"model.width={width} cannot be halved in each of {len(rates)} stages: set a "
                f"multiple of {2 ** len(rates)}"
            )
        if any(kernel % 2 == 0 for kernel in kernels):
            raise UserError(f"model.kernels={list(kernels)} must be odd")
        self.first = weight_norm(nn.Conv1d(freqs, width, 7, padding=3))
        self.stages = nn.ModuleList()
        for rate in rates:
            width //= 2
            # output_padding makes odd rates exact too; for even ones it is 0, as published.
            raised = nn.ConvTranspose1d(
                2 * width, width, 2 * rate, rate, padding=-(-rate // 2), output_padding=rate % 2
            )
            blocks = [ResidualBlock(width, kernel, dilations, antialias) for kernel in kernels]
            self.stages.append(nn.Sequential(weight_norm(raised), Mean(blocks)))
        self.last = nn.Sequential(
            _activation(width, antialias),
            weight_norm(nn.Conv1d(width, 1, 7, padding=3, bias=False)),
        )

    def forward(self, logs: Tensor) -> Tensor:
        x = self.first(logs)
        for stage in self.stages:
            x = stage(x)
        return self.last(x)[:, 0]


class ResidualBlock(nn.Module):
    """x + conv(act(conv_dilated(act(x)))) for each of ``dilations`` in turn: (B, C, T), same."""

    def __init__(
        self, channels: int, kernel: int, dilations: Sequence[int], antialias: bool
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList()
        for dilation in dilations:
            layers: list[nn.Module] = []
            for step in (dilation, 1):
                padding = step * (kernel // 2)
                conv = nn.Conv1d(channels, channels, kernel, padding=padding, dilation=step)
                layers += [_activation(channels, antialias), weight_norm(conv)]
            self.branches.append(nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        for branch in self.branches:
            x = x + branch(x)
        return x


class Mean(nn.ModuleList):
    """The mean of what its modules make of one input."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([module(x) for module in self]).mean(0)


def _activation(channels: int, antialias: bool) -> nn.Module:
    snake = Snake(channels)
    return AntiAliased(snake) if antialias else snake


def factors(hop: int) -> list[int]:
    """Rates whose product is ``hop``: its largest divisors up to 8, a greater prime as it is."""
    found: list[int] = []
    while hop > 1:
        small = [rate for rate in range(_LARGEST, 1, -1) if hop % rate == 0]
        rate = small[0] if small else next(r for r in range(2, hop + 1) if hop % r == 0)
        found.append(rate)
        hop //= rate
    return found
