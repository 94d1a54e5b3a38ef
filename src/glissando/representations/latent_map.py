"""Latents of another representation, as latent mel is of mel spectrograms."""

from __future__ import annotations

import hashlib
from functools import cached_property

import torch
from torch import Tensor

from glissando.networks.vae2d import MapAutoencoder
from glissando.representations.base import Representation
from glissando.representations.chunked import reach_of


class LatentMap(Representation):
    """Waveform -> ``inner``'s latent, normalized -> the network's (B, C, F', T'), and back.

    Both have statistics: ``inner``'s must be measured before the network is trained, those of the
    latents themselves are measured by training. Both are in the state_dict.
    """

    def __init__(self, network: MapAutoencoder, inner: Representation) -> None:
        super().__init__(
            network.channels, -(-inner.freqs // network.rows), inner.hop * network.columns,
            inner.sample_rate, inner.audio_channels,
        )  # fmt: skip
        if network.map_channels != inner.channels:
            raise ValueError(f"a network of {network.map_channels} channels, not {inner.channels}")
        self.network, self.inner = network, inner

    def frames(self, length: int) -> int:
        return -(-self.inner.frames(length) // self.network.columns)

    @cached_property
    def reach(self) -> int | None:
        """As far as the layers reach together, and the inner representation beyond them."""
        beyond, inner = self.inner.reach, self.inner
        if beyond is None:
            return None
        like = self.latent_mean.new_zeros(1, inner.channels, inner.freqs, 1)
        own = reach_of(
            lambda x: self.network.encode(x).mean,
            lambda z, columns: self.network.decode(z, inner.freqs, columns),
            like, self.network.columns,
        )  # fmt: skip
        return None if own is None else own + -(-beyond // self.network.columns)

    def encode_piece(self, wave: Tensor) -> Tensor:
        return self.network.encode(self.inner.normalize(self.inner.encode_piece(wave))).mean

    def decode_map(self, z: Tensor) -> Tensor:
        """The inner latent of all frames of ``z``, not normalized: what a vocoder takes.

        All of them, although ``decode_piece`` may want fewer samples: a vocoder hears the frames
        that follow a chunk.
        """
        x = self.network.decode(z, self.inner.freqs, z.shape[3] * self.network.columns)
        return self.inner.denormalize(x.float())

    def decode_piece(self, z: Tensor, length: int) -> Tensor:
        return self.inner.decode_piece(self.decode_map(z), length)

    def fingerprint(self) -> str:
        """A short hash of the weights, what is inside, and its statistics."""
        digest = hashlib.sha256(self.inner.fingerprint().encode())
        named = {**self.network.state_dict(), "mean": self.inner.latent_mean,
                 "std": self.inner.latent_std}  # fmt: skip
        for name, tensor in sorted(named.items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:12]
