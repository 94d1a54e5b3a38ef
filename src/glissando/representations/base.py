"""The contract between audio and what diffusion sees."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Representation(nn.Module, ABC):
    """Waveform (B, A, L) <-> latent (B, C, F, T).

    ``channels`` C, ``freqs`` F, ``hop`` samples between two frames, ``sample_rate`` in Hz,
    ``audio_channels`` A. ``encode``/``decode`` may be expensive; ``normalize``/``denormalize``
    are not and stay apart from them, so that cached latents can be normalized anew.
    """

    channels: int
    freqs: int
    hop: int
    sample_rate: int
    audio_channels: int

    @abstractmethod
    def frames(self, length: int) -> int:
        """Latent frames T of ``length`` samples."""

    @abstractmethod
    def encode(self, wave: Tensor) -> Tensor:
        """(B, A, L) -> (B, C, F, T), not normalized."""

    @abstractmethod
    def decode(self, z: Tensor, length: int) -> Tensor:
        """(B, C, F, T), not normalized -> (B, A, length)."""

    @abstractmethod
    def normalize(self, z: Tensor) -> Tensor:
        """To zero mean and unit variance per channel over the data."""

    @abstractmethod
    def denormalize(self, z: Tensor) -> Tensor:
        """Inverse of ``normalize``."""
