"""Discriminators of waveforms (EnCodec, Defossez et al. 2022, section 3.4) and of maps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

Scores = list[tuple[Tensor, list[Tensor]]]  # per resolution: logits and the features before them


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
    """One STFTDiscriminator per window size."""

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
