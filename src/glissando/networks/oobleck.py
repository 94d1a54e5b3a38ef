"""Oobleck: the strided-convolution autoencoder of Stable Audio (Evans et al. 2024).

Layout as published: DAC's residual units (Kumar et al. 2023) with dilations 1/3/9 and snake
activations, weight-normalized convolutions, no final tanh.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from glissando.networks.autoencoder import AudioAutoencoder
from glissando.networks.bottlenecks.base import Bottleneck
from glissando.networks.bottlenecks.kl import KL
from glissando.networks.snake import Snake


def _conv(inputs: int, outputs: int, kernel: int, **options) -> nn.Module:
    return weight_norm(nn.Conv1d(inputs, outputs, kernel, **options))


class ResidualUnit(nn.Sequential):
    """x + conv1(snake(conv7_dilated(snake(x)))), (B, C, T) -> (B, C, T)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__(
            Snake(channels),
            _conv(channels, channels, 7, dilation=dilation, padding=3 * dilation),
            Snake(channels),
            _conv(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def _residuals(channels: int) -> list[nn.Module]:
    return [ResidualUnit(channels, dilation) for dilation in (1, 3, 9)]


class OobleckAutoencoder(AudioAutoencoder):
    """Waveform (B, A, L) <-> latent (B, C, T) with T = ceil(L / hop).

    Args:
        channels: latent channels C.
        audio_channels: A.
        width: channels after the first convolution.
        multiples: width of each stage as a multiple of ``width``.
        strides: downsampling of each stage (>= 2); hop is their product.
        bottleneck: latent channels -> bottleneck.
    """

    def __init__(
        self,
        channels: int = 64,
        audio_channels: int = 1,
        width: int = 128,
        multiples: Sequence[int] = (1, 2, 4, 8, 16),
        strides: Sequence[int] = (2, 4, 4, 8, 8),
        bottleneck: Callable[[int], Bottleneck] = KL,
    ) -> None:
        super().__init__(channels, audio_channels, math.prod(strides), bottleneck(channels))
        widths = [width, *(width * multiple for multiple in multiples)]
        down: list[nn.Module] = [_conv(audio_channels, widths[0], 7, padding=3)]
        up: list[nn.Module] = [_conv(channels, widths[-1], 7, padding=3)]
        for inner, outer, stride in zip(widths[:-1], widths[1:], strides, strict=True):
            halo = math.ceil(stride / 2)
            down += _residuals(inner)
            down += [Snake(inner), _conv(inner, outer, 2 * stride, stride=stride, padding=halo)]
        for outer, inner, stride in zip(
            widths[:0:-1], widths[-2::-1], reversed(strides), strict=True
        ):
            halo = math.ceil(stride / 2)
            # output_padding makes odd strides exact too; for even ones it is 0, as published.
            transposed = nn.ConvTranspose1d(
                outer, inner, 2 * stride, stride, padding=halo, output_padding=stride % 2
            )
            up += [Snake(outer), weight_norm(transposed), *_residuals(inner)]
        down += [Snake(widths[-1]), _conv(widths[-1], self.bottleneck.inputs, 3, padding=1)]
        up += [Snake(widths[0]), _conv(widths[0], audio_channels, 7, padding=3, bias=False)]
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up)

    def frames(self, length: int) -> int:
        return -(-length // self.hop)

    def raw(self, wave: Tensor) -> Tensor:
        padding = self.frames(wave.shape[-1]) * self.hop - wave.shape[-1]
        return self.encoder(F.pad(wave, (0, padding)))

    def decode(self, z: Tensor, length: int) -> Tensor:
        return self.decoder(z)[..., :length]
