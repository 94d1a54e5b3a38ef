"""What every raw-audio autoencoder network promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn

from glissando.networks.posterior import Posterior


class AudioAutoencoder(nn.Module, ABC):
    """Waveform (B, A, L) <-> latent (B, C, T) with T = frames(L).

    ``channels`` is C, ``audio_channels`` A, ``hop`` the samples between two latent frames.
    """

    channels: int
    audio_channels: int
    hop: int

    @abstractmethod
    def frames(self, length: int) -> int:
        """Latent frames of ``length`` samples."""

    @abstractmethod
    def encode(self, wave: Tensor) -> Posterior:
        """(B, A, L) -> q(z | x) over (B, C, T)."""

    @abstractmethod
    def decode(self, z: Tensor, length: int) -> Tensor:
        """(B, C, T) -> (B, A, length), for any length with frames(length) <= T."""

    def warm_start(self, waves: Iterable[Tensor]) -> None:
        """Sets what data can set in closed form before the first step; by default nothing.

        ``waves`` yields (B, A, L) and is only consumed by networks that use it.
        """
        del waves
