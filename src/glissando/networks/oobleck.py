"""Oobleck: the strided-convolution autoencoder of Stable Audio (Evans et al. 2024).

Layout as published: DAC's residual units (Kumar et al. 2023) with dilations 1/3/9 and snake
activations, weight-normalized convolutions, no final tanh.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from glissando.networks.autoencoder import AudioAutoencoder
from glissando.networks.bottlenecks.base import Bottleneck
from glissando.networks.bottlenecks.kl import KL
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

    def __init__(self, channels: int, dilation: int, two: bool) -> None:
        super().__init__(
            Snake(channels, two=two),
            _conv(channels, channels, 7, dilation=dilation, padding=3 * dilation),
            Snake(channels, True, two),
            _conv(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y + x if torch.is_grad_enabled() else y.add_(x)


def _residuals(channels: int, two: bool) -> list[nn.Module]:
    return [ResidualUnit(channels, dilation, two) for dilation in (1, 3, 9)]


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
        decoder_width: that of the decoder; None: ``width``.
        two_snakes: whether snakes learn two parameters a channel; DAC's learn one.
        bounded: whether the waveform is a tanh, of a convolution with a bias, as DAC's is.
        bottleneck: latent channels -> bottleneck.
    """

    def __init__(
        self,
        channels: int = 64,
        audio_channels: int = 1,
        width: int = 128,
        multiples: Sequence[int] = (1, 2, 4, 8, 16),
        strides: Sequence[int] = (2, 4, 4, 8, 8),
        decoder_width: int | None = None,
        two_snakes: bool = True,
        bounded: bool = False,
        bottleneck: Callable[[int], Bottleneck] = KL,
    ) -> None:
        super().__init__(channels, audio_channels, math.prod(strides), bottleneck(channels))
        widths, wide = (
            [first, *(first * multiple for multiple in multiples)]
            for first in (width, decoder_width or width)
        )
        snake = partial(Snake, inplace=True, two=two_snakes)
        down: list[nn.Module] = [_conv(audio_channels, widths[0], 7, padding=3)]
        up: list[nn.Module] = [_conv(channels, wide[-1], 7, padding=3)]
        for inner, outer, stride in zip(widths[:-1], widths[1:], strides, strict=True):
            halo = math.ceil(stride / 2)
            strided = _conv(inner, outer, 2 * stride, stride=stride, padding=halo)
            down += [*_residuals(inner, two_snakes), snake(inner), strided]
        for outer, inner, stride in zip(wide[:0:-1], wide[-2::-1], reversed(strides), strict=True):
            halo = math.ceil(stride / 2)
            # output_padding makes odd strides exact too; for even ones it is 0, as published.
            transposed = ConvTranspose(
                outer, inner, 2 * stride, stride, padding=halo, output_padding=stride % 2
            )
            up += [snake(outer), weight_norm(transposed), *_residuals(inner, two_snakes)]
        down += [snake(widths[-1]), _conv(widths[-1], self.bottleneck.inputs, 3, padding=1)]
        up += [snake(wide[0]), _conv(wide[0], audio_channels, 7, padding=3, bias=bounded)]
        up += [nn.Tanh()] if bounded else []
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up)

    def frames(self, length: int) -> int:
        return -(-length // self.hop)

    def raw(self, wave: Tensor) -> Tensor:
        padding = self.frames(wave.shape[-1]) * self.hop - wave.shape[-1]
        return _run(self.encoder, F.pad(wave, (0, padding)))

    def decode(self, z: Tensor, length: int) -> Tensor:
        return _run(self.decoder, z)[..., :length]
