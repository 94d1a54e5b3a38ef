"""Latent audio: a raw-audio autoencoder."""

from __future__ import annotations

import hashlib
from functools import cached_property

import torch
from torch import Tensor

from glissando.networks.autoencoder import AudioAutoencoder
from glissando.representations.base import Representation
from glissando.representations.chunked import reach_of


class Autoencoder(Representation):
    """A learned autoencoder whose latents leave with zero mean and unit variance per channel.

    Training measures its statistics.
    """

    def __init__(self, network: AudioAutoencoder, sample_rate: int) -> None:
        super().__init__(network.channels, 1, network.hop, sample_rate, network.audio_channels)
        self.network = network

    def frames(self, length: int) -> int:
        return self.network.frames(length)

    @cached_property
    def reach(self) -> int | None:
        """As far as the network's layers reach together, whatever they are (``reach_of``)."""
        like = self.latent_mean.new_zeros(1, self.audio_channels, 1)
        return reach_of(self.encode_piece, self.decode_piece, like, self.hop)

    def encode_piece(self, wave: Tensor) -> Tensor:
        """(B, A, L) -> the posterior's mean as (B, C, 1, T)."""
        return self.network.encode(wave).mean.unsqueeze(2)

    def decode_piece(self, z: Tensor, length: int) -> Tensor:
        return self.network.decode(z.squeeze(2), length)

    def fingerprint(self) -> str:
        """A short hash of the weights: what cached latents are filed under."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:12]
