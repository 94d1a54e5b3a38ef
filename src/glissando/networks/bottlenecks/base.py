"""The contract between an encoder and a decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from torch import Tensor, nn


class Coded(Protocol):
    """What a bottleneck makes of an encoder's output; shapes (B, C, ...)."""

    @property
    def mean(self) -> Tensor:
        """The latent that is kept and diffused: the same every time, before any quantizer."""
        ...

    @property
    def codes(self) -> Tensor | None:
        """Indices (B, K, ...) into the K codebooks; None where latents are continuous."""
        ...

    def sample(self) -> Tensor:
        """The latent that a decoder is trained on, through which it trains the encoder."""
        ...

    def penalties(self) -> dict[str, Tensor]:
        """Scalars to be minimized besides the reconstruction, by name, not weighted."""
        ...


class Bottleneck(nn.Module, ABC):
    """Encoder output (B, ``inputs``, ...) -> ``Coded`` latent (B, ``channels``, ...).

    ``books`` holds the size of each codebook, none where latents are continuous.
    """

    channels: int
    inputs: int
    books: tuple[int, ...] = ()

    @abstractmethod
    def forward(self, raw: Tensor) -> Coded:
        """Any number of dimensions after the second; float32 inside, also under autocast."""

    def settle(self, z: Tensor) -> Tensor:
        """Any latent (B, C, ...) -> what a decoder is given for it, with a gradient to it.

        A quantizer belongs to the decoder (Rombach et al. 2022, section 3.1): diffusion works on
        what is not quantized yet, and a decoder hears only what it was trained on.
        """
        return z
