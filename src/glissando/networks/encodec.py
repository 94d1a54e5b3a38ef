"""EnCodec's network: causal convolutions and an LSTM (Defossez et al. 2022, arXiv:2210.13438, 3.1).

Shapes: B batch, A audio channels, C latent channels, D features, L samples, T time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from glissando.networks.autoencoder import AudioAutoencoder
from glissando.networks.bottlenecks.base import Bottleneck
from glissando.networks.bottlenecks.rvq import RVQ


class CausalConv(nn.Module):
    """(B, D, T) -> (B, out, ceil(T / stride)); what was before the beginning is its reflection."""

    def __init__(self, width: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = weight_norm(nn.Conv1d(width, out, kernel, stride))
        self.before, self.stride = kernel - stride, stride

    def forward(self, x: Tensor) -> Tensor:
        after = -x.shape[2] % self.stride
        missing = max(0, max(self.before, after) - x.shape[2] + 1)  # of what a reflection needs
        x = F.pad(F.pad(x, (0, missing)), (self.before, after), mode="reflect")
        return self.conv(x[..., : x.shape[2] - missing])


class CausalUp(nn.Module):
    """(B, D, T) -> (B, out, T stride), by a kernel of two strides."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv = weight_norm(nn.ConvTranspose1d(width, out, 2 * stride, stride))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)[..., : -self.stride]


class ResidualUnit(nn.Module):
    """conv1(x) + conv1(ELU(conv3(ELU(x)))), half as wide inside, (B, D, T) -> (B, D, T)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ELU(), CausalConv(width, width // 2, 3), nn.ELU(), CausalConv(width // 2, width, 1)
        )
        self.skip = CausalConv(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.branch(x)


class Recurrent(nn.Module):
    """x + LSTM(x), (B, D, T) -> (B, D, T): a frame hears all that came before it."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.permute(2, 0, 1)
        return (self.lstm(steps)[0] + steps).permute(1, 2, 0)


class EnCodec(AudioAutoencoder):
    """Waveform (B, A, L) <-> latent (B, C, T) with T = ceil(L / hop).

    Its LSTM hears all of a clip, so long audio is coded in one pass.

    Args:
        channels: latent channels C.
        audio_channels: A.
        width: features D of the first convolution; each stage doubles them.
        strides: downsampling of each stage; hop is their product.
        layers: of the LSTM.
        bottleneck: latent channels -> bottleneck.
    """

    def __init__(
        self,
        channels: int = 128,
        audio_channels: int = 1,
        width: int = 32,
        strides: Sequence[int] = (2, 4, 5, 8),
        layers: int = 2,
        bottleneck: Callable[[int], Bottleneck] = RVQ,
    ) -> None:
        super().__init__(channels, audio_channels, math.prod(strides), bottleneck(channels))
        last = width * 2 ** len(strides)
        down: list[nn.Module] = [CausalConv(audio_channels, width, 7)]
        up: list[nn.Module] = [CausalConv(channels, last, 7), Recurrent(last, layers)]
        for number, stride in enumerate(strides):
            fine = width * 2**number
            down += [ResidualUnit(fine), nn.ELU(), CausalConv(fine, 2 * fine, 2 * stride, stride)]
        for number, stride in reversed(list(enumerate(strides))):
            fine = width * 2**number
            up += [nn.ELU(), CausalUp(2 * fine, fine, stride), ResidualUnit(fine)]
        down += [Recurrent(last, layers), nn.ELU(), CausalConv(last, self.bottleneck.inputs, 7)]
        up += [nn.ELU(), CausalConv(width, audio_channels, 7)]
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up)

    def frames(self, length: int) -> int:
        return -(-length // self.hop)

    def raw(self, wave: Tensor) -> Tensor:
        return self.encoder(wave)

    def decode(self, z: Tensor, length: int) -> Tensor:
        return self.decoder(z)[..., :length]
