"""What every autoencoder network promises, whether it codes waveforms or maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn

from glissando.networks.bottlenecks.base import Bottleneck, Coded


class MapCodec(nn.Module, ABC):
    """Map (B, A, F, T) <-> latent (B, C, F', T').

    ``channels`` is C, ``map_channels`` A; ``rows`` and ``columns`` are how many points of the map
    a point of the latent stands for.
    """

    channels: int
    map_channels: int
    rows: int
    columns: int
    bottleneck: Bottleneck

    @abstractmethod
    def size(self, rows: int, columns: int) -> tuple[int, int]:
        """(F', T') of a map of ``rows`` x ``columns``."""

    def span(self, frames: int) -> int:
        """The most columns that ``frames`` latent frames T' give."""
        return frames * self.columns

    @abstractmethod
    def encode_map(self, x: Tensor) -> Coded:
        """(B, A, F, T) -> the coded latent (B, C, F', T')."""

    @abstractmethod
    def decode_map(self, z: Tensor, rows: int, columns: int) -> Tensor:
        """(B, C, F', T') -> (B, A, rows, columns), for any size whose latent is in ``z``."""

    def warm_start(self, maps: Iterable[Tensor]) -> None:
        """Sets what data can set in closed form before the first step; by default nothing.

        ``maps`` yields (B, A, F, T) and is only consumed by networks that use it.
        """
        del maps


class AudioAutoencoder(MapCodec):
    """Waveform (B, A, L) <-> latent (B, C, T) with T = frames(L): a map with one row.

    ``audio_channels`` is A, ``hop`` the samples between two latent frames.
    """

    rows = 1

    def __init__(
        self, channels: int, audio_channels: int, hop: int, bottleneck: Bottleneck
    ) -> None:
        super().__init__()
        self.channels, self.bottleneck = channels, bottleneck
        self.map_channels = self.audio_channels = audio_channels
        self.columns = self.hop = hop

    @abstractmethod
    def frames(self, length: int) -> int:
        """Latent frames of ``length`` samples."""

    @abstractmethod
    def raw(self, wave: Tensor) -> Tensor:
        """(B, A, L) -> what the bottleneck takes, (B, bottleneck.inputs, T)."""

    @abstractmethod
    def decode(self, z: Tensor, length: int) -> Tensor:
        """(B, C, T) -> (B, A, length), for any length with frames(length) <= T."""

    def encode(self, wave: Tensor) -> Coded:
        """(B, A, L) -> the coded latent (B, C, T)."""
        return self.bottleneck(self.raw(wave))

    def size(self, rows: int, columns: int) -> tuple[int, int]:
        return rows, self.frames(columns)

    def encode_map(self, x: Tensor) -> Coded:
        return self.bottleneck(self.raw(x.squeeze(2)).unsqueeze(2))

    def decode_map(self, z: Tensor, rows: int, columns: int) -> Tensor:
        return self.decode(z.squeeze(2), columns).unsqueeze(2)
