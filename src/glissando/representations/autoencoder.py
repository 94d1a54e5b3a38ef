"""A learned autoencoder: latent audio where it codes waveforms, latent mel where spectrograms."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property

import torch
from torch import Tensor

from glissando.networks.autoencoder import MapCodec
from glissando.representations.base import Representation
from glissando.representations.chunked import reach_of
from glissando.representations.waveform import Waveform


class Autoencoder(Representation):
    """Waveform -> ``inner``'s latent, normalized -> the network's (B, C, F, T), and back.

    The latents leave with zero mean and unit variance per channel by statistics that training
    measures. ``inner`` has its own, measured before (``warm_start``); both are in the state_dict.

    Args:
        network: codes maps of ``inner.channels`` channels.
        sample_rate: Hz.
        inner: what the network codes; None: waveforms as they are.

    Raises ValueError where network and inner do not fit.
    """

    def __init__(
        self, network: MapCodec, sample_rate: int, inner: Representation | None = None
    ) -> None:
        inner = inner or Waveform(sample_rate, network.map_channels).as_it_is()
        if network.map_channels != inner.channels:
            raise ValueError(f"a network of {network.map_channels} channels, not {inner.channels}")
        super().__init__(
            network.channels, -(-inner.freqs // network.rows), inner.hop * network.columns,
            sample_rate, inner.audio_channels,
        )  # fmt: skip
        self.network, self.inner = network, inner.requires_grad_(False)

    def frames(self, length: int) -> int:
        return self.network.size(self.inner.freqs, self.inner.frames(length))[1]

    @cached_property
    def reach(self) -> int | None:
        """As far as the network's layers reach together, whatever they are (``reach_of``), and
        beyond them the inner representation."""
        network, freqs, beyond = self.network, self.inner.freqs, self.inner.reach
        if beyond is None:
            return None
        own = reach_of(
            lambda x: network.encode_map(x).mean,
            lambda z, columns: network.decode_map(z, freqs, columns),
            self.latent_mean.new_zeros(1, self.inner.channels, freqs, 1), network.columns,
        )  # fmt: skip
        return None if own is None else own + -(-beyond // network.columns)

    def map_of(self, wave: Tensor) -> Tensor:
        """(B, A, L) -> what the network codes, (B, C, F, T) of ``inner``, normalized."""
        return self.inner.normalize(self.inner.encode_piece(wave))

    def wave_of(self, x: Tensor, length: int) -> Tensor:
        """Inverse of ``map_of``, as far as ``inner`` has one: (B, A, length)."""
        return self.inner.decode_piece(self.inner.denormalize(x.float()), length)

    def encode_piece(self, wave: Tensor) -> Tensor:
        """(B, A, L) -> the latent that the bottleneck keeps, (B, C, F, T)."""
        return self.network.encode_map(self.map_of(wave)).mean

    def decode_piece(self, z: Tensor, length: int) -> Tensor:
        # All that is in z, for a vocoder hears the frames that follow a chunk.
        columns = self.network.span(z.shape[3])
        settled = self.network.bottleneck.settle(z)
        return self.wave_of(self.network.decode_map(settled, self.inner.freqs, columns), length)

    def warm_start(self, waves: Iterable[Tensor]) -> None:
        """Measures ``inner`` on (B, A, L) waveforms unless it is; then the network may look."""
        if not self.inner.measured:
            waves = list(waves)
            self.inner.measure_on(self.inner.encode_piece(wave) for wave in waves)
        self.network.warm_start(self.map_of(wave) for wave in waves)

    def fingerprint(self) -> str:
        """A short hash of weights and ``inner``: what cached latents are filed under.

        A vocoder takes no part, nor have waveforms anything that could differ.
        """
        digest = hashlib.sha256(self.inner.fingerprint().encode() if self.inner.settings else b"")
        scale = {
            name: tensor
            for name, tensor in self.inner.state_dict().items()
            if name in ("latent_mean", "latent_std")
        }
        for name, tensor in sorted({**self.network.state_dict(), **scale}.items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:12]
