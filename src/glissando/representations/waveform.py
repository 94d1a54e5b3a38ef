"""The samples themselves, as Dance Diffusion takes them."""

from __future__ import annotations

from torch import Tensor

from glissando.representations.base import Representation


class Waveform(Representation):
    """(B, A, L) <-> (B, A, 1, L): a frame is a sample, a channel a channel.

    ``sample_rate`` in Hz and ``audio_channels`` A are those of the data.
    """

    def __init__(self, sample_rate: int, audio_channels: int) -> None:
        super().__init__(audio_channels, 1, 1, sample_rate, audio_channels)

    @property
    def reach(self) -> int:
        return 0

    def frames(self, length: int) -> int:
        return length

    def encode_piece(self, wave: Tensor) -> Tensor:
        return wave.unsqueeze(2)

    def decode_piece(self, z: Tensor, length: int) -> Tensor:
        return z.squeeze(2)[..., :length]

    def compared(self, z: Tensor) -> Tensor:
        return z.squeeze(2)
