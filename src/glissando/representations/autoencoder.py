"""Latent audio: a raw-audio autoencoder and the statistics of its latents."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from glissando.networks.autoencoder import AudioAutoencoder
from glissando.representations.base import Representation


class Autoencoder(Representation):
    """A learned autoencoder whose latents leave with zero mean and unit variance per channel.

    The wrong latent scale is this field's quietest failure: the loss falls and the samples are
    noise. So the statistics are measured by training (``measure``), travel in the state_dict, and
    ``normalize`` refuses to guess them.
    """

    latent_mean: Tensor
    latent_std: Tensor
    freqs = 1

    def __init__(self, network: AudioAutoencoder, sample_rate: int) -> None:
        super().__init__()
        self.network = network
        self.channels, self.hop = network.channels, network.hop
        self.audio_channels, self.sample_rate = network.audio_channels, sample_rate
        # NaN means "not measured": it cannot be mistaken for a scale.
        unknown = torch.full((1, network.channels, 1, 1), float("nan"))
        self.register_buffer("latent_mean", unknown)
        self.register_buffer("latent_std", unknown.clone())

    def frames(self, length: int) -> int:
        return self.network.frames(length)

    def encode(self, wave: Tensor) -> Tensor:
        """(B, A, L) -> the posterior's mean as (B, C, 1, T)."""
        return self.network.encode(wave).mean.unsqueeze(2)

    def decode(self, z: Tensor, length: int) -> Tensor:
        return self.network.decode(z.squeeze(2), length)

    def normalize(self, z: Tensor) -> Tensor:
        return (z - self.latent_mean) / self.latent_std

    def denormalize(self, z: Tensor) -> Tensor:
        return z * self.latent_std + self.latent_mean

    @property
    def measured(self) -> bool:
        """Whether the latent statistics are known."""
        return bool(self.latent_std.isfinite().all())

    def measure(self, total: Tensor, squares: Tensor, count: Tensor) -> None:
        """Sets the statistics from per-channel sums (C,) over ``count`` latent frames."""
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(1e-8)
        self.latent_mean.copy_(mean.view_as(self.latent_mean))
        self.latent_std.copy_(variance.sqrt().view_as(self.latent_std))

    def fingerprint(self) -> str:
        """A short hash of the weights: what cached latents are filed under."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:12]
