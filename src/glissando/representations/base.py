"""The contract between audio and what diffusion sees."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from glissando.representations import chunked


class Representation(nn.Module, ABC):
    """Waveform (B, A, L) <-> latent (B, C, F, T), and the statistics of the latents.

    ``encode``/``decode`` may be expensive; ``normalize``/``denormalize`` are not and stay apart
    from them, so that cached latents can be normalized anew.

    The wrong latent scale is this field's quietest failure: the loss falls and the samples are
    noise. So the statistics are measured on data (``measure``), travel in the state_dict, and
    ``normalize`` refuses to guess them.

    Args:
        channels: C. freqs: F. hop: samples between two frames. sample_rate: Hz.
        audio_channels: A.
        settings: whatever else changes what ``encode`` returns, as plain JSON values.
    """

    latent_mean: Tensor
    latent_std: Tensor
    recipe: dict[str, Any] | None = None
    """The config that rebuilds this without its weights, where it was built from one."""

    def __init__(
        self,
        channels: int,
        freqs: int,
        hop: int,
        sample_rate: int,
        audio_channels: int,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.channels, self.freqs, self.hop = channels, freqs, hop
        self.sample_rate, self.audio_channels = sample_rate, audio_channels
        self.settings = settings
        # NaN means "not measured": it cannot be mistaken for a scale.
        unknown = torch.full((1, channels, 1, 1), float("nan"))
        self.register_buffer("latent_mean", unknown)
        self.register_buffer("latent_std", unknown.clone())

    # ---- what a representation writes -----------------------------------------------------

    @abstractmethod
    def frames(self, length: int) -> int:
        """Latent frames T of ``length`` samples."""

    @abstractmethod
    def encode_piece(self, wave: Tensor) -> Tensor:
        """``encode`` in one pass, of audio that is short enough for it."""

    @abstractmethod
    def decode_piece(self, z: Tensor, length: int) -> Tensor:
        """``decode`` in one pass, of audio that is short enough for it."""

    @property
    @abstractmethod
    def reach(self) -> int | None:
        """Blocks of ``hop`` samples on either side of its own that a frame sees or is heard in.

        None where that is all of a clip: long audio is then coded in one pass too.
        """

    @property
    def lead(self) -> float:
        """By how many frames a frame's middle lies before that of its block, k hop to (k + 1) hop.

        Half of the frames that a clip has beyond its blocks, as the transforms that have some begin
        as far before the clip as they end after it: 0.5 where frames are centred on the blocks'
        edges (MDCT), else 0.
        """
        blocks = 64
        return (self.frames(blocks * self.hop) - blocks) / 2

    # ---- what everyone calls --------------------------------------------------------------

    def encode(self, wave: Tensor) -> Tensor:
        """(B, A, L) -> (B, C, F, T), not normalized; any L from 1, long audio in chunks."""
        length = wave.shape[-1]
        if length <= chunked.CHUNK or self.reach is None:
            return self.encode_piece(wave)
        return chunked.encode(self.encode_piece, wave, self.hop, self.frames(length), self.reach)

    def decode(self, z: Tensor, length: int) -> Tensor:
        """(B, C, F, T), not normalized -> (B, A, length); long audio in chunks."""
        if length <= chunked.CHUNK or self.reach is None:
            return self.decode_piece(z, length)
        return chunked.decode(self.decode_piece, z, length, self.hop, self.reach)

    def normalize(self, z: Tensor) -> Tensor:
        """To zero mean and unit variance per channel over the data."""
        return (z - self.latent_mean) / self.latent_std

    def denormalize(self, z: Tensor) -> Tensor:
        """Inverse of ``normalize``."""
        return z * self.latent_std + self.latent_mean

    @property
    def measured(self) -> bool:
        """Whether the latent statistics are known."""
        return bool(self.latent_std.isfinite().all())

    def measure(self, total: Tensor, squares: Tensor, count: Tensor | float) -> None:
        """Sets the statistics from sums (C,) of values and of squares over ``count`` of them."""
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(1e-8)
        self.latent_mean.copy_(mean.view_as(self.latent_mean))
        self.latent_std.copy_(variance.sqrt().view_as(self.latent_std))

    def measure_on(self, latents: Iterable[Tensor]) -> None:
        """Sets the statistics from latents (B, C, F, T), not normalized."""
        self.measure(*torch.stack([sums(z) for z in latents]).sum(0).split(self.channels))

    def as_it_is(self) -> Representation:
        """Itself, where latents shall keep their scale: mean 0 and deviation 1 by decision, hence
        no part of the state_dict."""
        self.register_buffer("latent_mean", torch.zeros_like(self.latent_mean), persistent=False)
        self.register_buffer("latent_std", torch.ones_like(self.latent_std), persistent=False)
        return self

    def compared(self, z: Tensor) -> Tensor:
        """Latents (B, C, F, T) as losses and discriminators take them: the same, or waveforms."""
        return z

    def fingerprint(self) -> str:
        """A short hash of what ``encode`` computes: what cached latents are filed under."""
        facts = {
            **self.settings, "class": type(self).__name__, "hop": self.hop,
            "sample_rate": self.sample_rate, "audio_channels": self.audio_channels,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def sums(z: Tensor) -> Tensor:
    """(B, C, F, T) -> per channel the sum, that of squares and the number of values: (3C,)."""
    flat = z.double().transpose(0, 1).flatten(1)
    return torch.cat(
        [flat.sum(1), flat.square().sum(1), torch.full_like(flat[:, 0], flat.shape[1])]
    )
