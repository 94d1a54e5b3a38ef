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

    def __init__(self, channels: int, dilation: int, two: bool) -> None:
        super().__init__(
            Snake(channels, two),
            _conv(channels, channels, 7, dilation=dilation, padding=3 * dilation),
            Snake(channels, two),
            _conv(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def _residuals(channels: int, two: bool) -> list[nn.Module]:
    return [ResidualUnit(channels, dilation, two) for dilation in (1, 3, 9)]


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
        down: list[nn.Module] = [_conv(audio_channels, widths[0], 7, padding=3)]
        up: list[nn.Module] = [_conv(channels, wide[-1], 7, padding=3)]
        for inner, outer, stride in zip(widths[:-1], widths[1:], strides, strict=True):
            halo = math.ceil(stride / 2)
            down += _residuals(inner, two_snakes)
            down += [Snake(inner, two_snakes)]
            down += [_conv(inner, outer, 2 * stride, stride=stride, padding=halo)]
        for outer, inner, stride in zip(wide[:0:-1], wide[-2::-1], reversed(strides), strict=True):
            halo = math.ceil(stride / 2)
            # output_padding makes odd strides exact too; for even ones it is 0, as published.
            transposed = nn.ConvTranspose1d(
                outer, inner, 2 * stride, stride, padding=halo, output_padding=stride % 2
            )
            up += [Snake(outer, two_snakes), weight_norm(transposed)]
            up += _residuals(inner, two_snakes)
        down += [Snake(widths[-1], two_snakes)]
        down += [_conv(widths[-1], self.bottleneck.inputs, 3, padding=1)]
        up += [Snake(wide[0], two_snakes)]
        up += [_conv(wide[0], audio_channels, 7, padding=3, bias=bounded)]
        up += [nn.Tanh()] if bounded else []
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up)

    def frames(self, length: int) -> int:
        return -(-length // self.hop)

    def raw(self, wave: Tensor) -> Tensor:
        padding = self.frames(wave.shape[-1]) * self.hop - wave.shape[-1]
        return self.encoder(F.pad(wave, (0, padding)))

    def decode(self, z: Tensor, length: int) -> Tensor:
        return self.decoder(z)[..., :length]
