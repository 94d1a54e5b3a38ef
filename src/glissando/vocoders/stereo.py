"""Mono to stereo: the side channel, made of the middle (MusicHiFi-M2S)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from glissando.errors import UserError
from glissando.representations.spectrum import Spectrum
from glissando.vocoders.widening import Widening


class MonoToStereo(Widening):
    """(mid + side, mid - side), side by the network: the mean of both channels is the input.

    Args:
        audio_channels: of the training data, which must be 2.
    """

    rate_flag = "data.sample_rate"

    def __init__(
        self, spectrum: Spectrum, network: Callable[..., nn.Module], audio_channels: int = 2
    ) -> None:
        if audio_channels != 2:
            raise UserError(
                f"model=mono_to_stereo learns from stereo, not from {audio_channels} channels: set "
                "data.channels=2"
            )
        super().__init__(spectrum, network)

    def channels(self, given: int) -> int:
        if given != 1:
            raise UserError(
                f"makes stereo of mono and would be given {given} channels: leave it out"
            )
        return 2

    def degrade(self, wave: Tensor) -> Tensor:
        return wave.mean(1, keepdim=True)

    def forward(self, given: Tensor, length: int) -> Tensor:
        mid, side = given[..., :length], self.added(given)[..., :length]
        return torch.cat([mid + side, mid - side], dim=1)
