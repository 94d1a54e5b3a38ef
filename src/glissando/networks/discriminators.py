"""Discriminators of waveforms (spectra of several resolutions, samples of several periods) and of
maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

Scores = list[tuple[Tensor, list[Tensor]]]  # of each one: logits and the features before them


class STFTDiscriminator(nn.Module):
    """2-D convolutions over the real and imaginary STFT of one resolution."""

    window: Tensor

    def __init__(self, size: int, audio_channels: int, width: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("window", torch.hann_window(size), persistent=False)

        def conv(inputs: int, outputs: int, kernel: tuple[int, int], **options) -> nn.Module:
            return weight_norm(nn.Conv2d(inputs, outputs, kernel, **options))

        # Kernels are (time, frequency): frequency is strided down, time is dilated.
        layers = [conv(2 * audio_channels, width, (3, 9), padding=(1, 4))]
        for dilation in (1, 2, 4):
            layers.append(
                conv(
                    width, width, (3, 9), stride=(1, 2),
                    dilation=(dilation, 1), padding=(dilation, 4),
                )
            )  # fmt: skip
        layers.append(conv(width, width, (3, 3), padding=(1, 1)))
        self.layers = nn.ModuleList(layers)
        self.head = conv(width, 1, (3, 3), padding=(1, 1))

    def forward(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, A, L) -> logits (B, 1, T, F') and the list of features."""
        with torch.autocast(wave.device.type, enabled=False):
            spectrum = torch.stft(
                wave.float().flatten(0, 1), self.size, self.size // 4, window=self.window,
                normalized=True, return_complex=True,
            )  # fmt: skip
            x = torch.view_as_real(spectrum).permute(0, 3, 2, 1)  # (B A, 2, T, F)
            x = x.reshape(len(wave), -1, *x.shape[2:])
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.head(x), features


class MultiResolutionSTFTDiscriminator(nn.Module):
    """One STFTDiscriminator per window size (EnCodec, Defossez et al. 2022, section 3.4)."""

    def __init__(
        self, audio_channels: int = 1, sizes: Sequence[int] = (2048, 1024, 512), width: int = 32
    ) -> None:
        super().__init__()
        self.resolutions = nn.ModuleList(
            STFTDiscriminator(size, audio_channels, width) for size in sizes
        )

    def forward(self, wave: Tensor) -> Scores:
        """(B, A, L) -> per resolution (logits, features)."""
        return [resolution(wave) for resolution in self.resolutions]


class PeriodDiscriminator(nn.Module):
    """2-D convolutions over rows of ``period`` samples, each column by itself.

    Five layers of ``width`` times 1, 4, 16, 32 and 32 channels; the first four skip 2 rows of 3.
    """

    def __init__(self, period: int, audio_channels: int, width: int) -> None:
        super().__init__()
        self.period = period
        widths = [audio_channels, *(width * multiple for multiple in (1, 4, 16, 32, 32))]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(inputs, outputs, (5, 1), (stride, 1), padding=(2, 0)))
            for inputs, outputs, stride in zip(
                widths[:-1], widths[1:], (3, 3, 3, 3, 1), strict=True
            )
        )
        self.head = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, A, L) -> logits (B, 1, T', period) and the list of features."""
        x = F.pad(wave, (0, -wave.shape[-1] % self.period)).unflatten(-1, (-1, self.period))
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.1)
            features.append(x)
        return self.head(x), features


class MultiPeriodDiscriminator(nn.Module):
    """One PeriodDiscriminator per period (HiFi-GAN, Kong et al. 2020, section 2.3; width 32)."""

    def __init__(
        self,
        audio_channels: int = 1,
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        width: int = 32,
    ) -> None:
        super().__init__()
        self.periods = nn.ModuleList(
            PeriodDiscriminator(period, audio_channels, width) for period in periods
        )

    def forward(self, wave: Tensor) -> Scores:
        """(B, A, L) -> per period (logits, features)."""
        return [period(wave) for period in self.periods]


class Discriminators(nn.Module):
    """Several kinds at once, their scores together: losses average over them all."""

    def __init__(
        self, parts: Mapping[str, Callable[..., nn.Module]], audio_channels: int = 1
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({
            name: make(audio_channels=audio_channels) for name, make in parts.items()
        })  # fmt: skip

    def forward(self, wave: Tensor) -> Scores:
        """(B, A, L) -> (logits, features) of every discriminator of every part."""
        return [score for part in self.parts.values() for score in part(wave)]


class PatchDiscriminator(nn.Module):
    """Judges patches of a map (Isola et al. 2017), as latent diffusion's VAE and AudioLDM's have.

    ``layers`` of kernel 4 and stride 2, each twice as wide as the one before (8 ``width`` at most),
    then two of stride 1: with 3 layers a patch is 70 x 70. Weight norm in place of batch norm.
    """

    def __init__(self, audio_channels: int = 1, width: int = 32, layers: int = 3) -> None:
        super().__init__()
        widths = [audio_channels, *(width * 2 ** min(level, 3) for level in range(layers + 1))]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(inner, outer, 4, 2 if number < layers else 1, padding=1))
            for number, (inner, outer) in enumerate(pairwise(widths))
        )
        self.head = weight_norm(nn.Conv2d(widths[-1], 1, 4, padding=1))

    def forward(self, x: Tensor) -> Scores:
        """(B, A, F, T) -> logits (B, 1, F', T') and features, of the one discriminator."""
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return [(self.head(x), features)]
