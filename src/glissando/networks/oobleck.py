"""Oobleck: the strided-convolution autoencoder of Stable Audio (Evans et al. 2024).

Layout as published: DAC's residual units (Kumar et al. 2023) with dilations 1/3/9 and snake
activations, weight-normalized convolutions, no final tanh.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from glissando.networks.autoencoder import AudioAutoencoder
from glissando.networks.posterior import Posterior
from glissando.networks.snake import Snake


class Conv(nn.Conv1d):
    """A Conv1d, (B, C, T) -> (B, C', T'), of what has its channels last in memory.

    As a 2-D convolution of height 1, for which oneDNN is fastest in this layout and keeps it. A
    kernel of one sample is then a plain product.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size == (1,):
            return F.linear(x.mT, self.weight[..., 0], self.bias).mT
        weight, padding = self.weight[:, :, None], (0, int(self.padding[0]))
        stride, dilation = (1, self.stride[0]), (1, self.dilation[0])
        y = F.conv2d(x.unsqueeze(2), weight, self.bias, stride, padding, dilation)
        return y.squeeze(2)


class ConvTranspose(nn.ConvTranspose1d):
    """A ConvTranspose1d, the same way."""

    def forward(self, x: Tensor) -> Tensor:
        weight, padding = self.weight[:, :, None], (0, int(self.padding[0]))
        stride, extra = (1, self.stride[0]), (0, self.output_padding[0])
        y = F.conv_transpose2d(x.unsqueeze(2), weight, self.bias, stride, padding, extra)
        return y.squeeze(2)


def _conv(inputs: int, outputs: int, kernel: int, **options) -> nn.Module:
    return weight_norm(Conv(inputs, outputs, kernel, **options))


class ResidualUnit(nn.Sequential):
    """x + conv1(snake(conv7_dilated(snake(x)))), (B, C, T) -> (B, C, T)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__(
            Snake(channels),
            _conv(channels, channels, 7, dilation=dilation, padding=3 * dilation),
            Snake(channels, inplace=True),
            _conv(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y + x if torch.is_grad_enabled() else y.add_(x)


def _residuals(channels: int) -> list[nn.Module]:
    return [ResidualUnit(channels, dilation) for dilation in (1, 3, 9)]


def _run(layers: nn.Module, x: Tensor) -> Tensor:
    """(B, C, T) -> (B, C', T'); between the ends of ``layers`` channels come last in memory."""
    return layers(x.mT.contiguous().mT).contiguous()


class OobleckAutoencoder(AudioAutoencoder):
    """Waveform (B, A, L) <-> latent (B, C, T) with T = ceil(L / hop).

    Args:
        channels: latent channels C.
        audio_channels: A.
        width: channels after the first convolution.
        multiples: width of each stage as a multiple of ``width``.
        strides: downsampling of each stage (>= 2); hop is their product.
    """

    def __init__(
        self,
        channels: int = 64,
        audio_channels: int = 1,
        width: int = 128,
        multiples: Sequence[int] = (1, 2, 4, 8, 16),
        strides: Sequence[int] = (2, 4, 4, 8, 8),
    ) -> None:
        super().__init__()
        self.channels, self.audio_channels, self.hop = channels, audio_channels, math.prod(strides)
        widths = [width, *(width * multiple for multiple in multiples)]
        down: list[nn.Module] = [_conv(audio_channels, widths[0], 7, padding=3)]
        up: list[nn.Module] = [_conv(channels, widths[-1], 7, padding=3)]
        for inner, outer, stride in zip(widths[:-1], widths[1:], strides, strict=True):
            halo = math.ceil(stride / 2)
            strided = _conv(inner, outer, 2 * stride, stride=stride, padding=halo)
            down += [*_residuals(inner), Snake(inner, True), strided]
        for outer, inner, stride in zip(
            widths[:0:-1], widths[-2::-1], reversed(strides), strict=True
        ):
            halo = math.ceil(stride / 2)
            # output_padding makes odd strides exact too; for even ones it is 0, as published.
            transposed = ConvTranspose(
                outer, inner, 2 * stride, stride, padding=halo, output_padding=stride % 2
            )
            up += [Snake(outer, True), weight_norm(transposed), *_residuals(inner)]
        down += [Snake(widths[-1], True), _conv(widths[-1], 2 * channels, 3, padding=1)]
        up += [Snake(widths[0], True), _conv(widths[0], audio_channels, 7, padding=3, bias=False)]
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up)

    def frames(self, length: int) -> int:
        return -(-length // self.hop)

    def encode(self, wave: Tensor) -> Posterior:
        padding = self.frames(wave.shape[-1]) * self.hop - wave.shape[-1]
        return Posterior.split(_run(self.encoder, F.pad(wave, (0, padding))))

    def decode(self, z: Tensor, length: int) -> Tensor:
        return _run(self.decoder, z)[..., :length]
