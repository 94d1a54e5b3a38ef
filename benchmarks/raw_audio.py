"""Raw-audio autoencoders at one shape: ours, diffusers' with the same weights, and the spectral."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import torch
from measure import composed
from torch import Tensor, nn
from torch.nn import functional as F

from glissando.build import plain
from glissando.checkpoints.instantiate import instantiate
from glissando.datasets.base import Batch
from glissando.networks.autoencoder import AudioAutoencoder
from glissando.networks.bottlenecks.kl import KL
from glissando.networks.oobleck import OobleckAutoencoder
from glissando.representations.autoencoder import Autoencoder
from glissando.training.autoencoder import AutoencoderModule

RATE, AUDIO_CHANNELS = 44100, 2


class Shape(NamedTuple):
    """Of an autoencoder and its batch."""

    width: int = 32
    channels: int = 32  # of the latent
    multiples: tuple[int, ...] = (1, 2, 4, 8)
    strides: tuple[int, ...] = (2, 4, 8, 8)
    batch: int = 1
    seconds: float = 1.5

    @property
    def length(self) -> int:
        """Samples of a clip."""
        return round(self.seconds * RATE)

    def __str__(self) -> str:
        return (
            f"width {self.width}, multiples {self.multiples}, strides {self.strides}, latent "
            f"{self.channels}, {self.batch} x {self.seconds} s of stereo at {RATE} Hz"
        )


class Diffusers(AudioAutoencoder):
    """diffusers' ``AutoencoderOobleck``."""

    def __init__(self, shape: Shape) -> None:
        channels, hop = shape.channels, math.prod(shape.strides)
        super().__init__(channels, AUDIO_CHANNELS, hop, KL(channels))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its own imports
            from diffusers.models.autoencoders import autoencoder_oobleck as published

            kind: Any = published.AutoencoderOobleck
            network = kind(
                encoder_hidden_size=shape.width, downsampling_ratios=list(shape.strides),
                channel_multiples=list(shape.multiples), decoder_channels=shape.width,
                decoder_input_channels=channels, audio_channels=AUDIO_CHANNELS,
            )  # fmt: skip
            # It has as many outputs as the first layer, which is half of the latent wanted here.
            last = nn.Conv1d(shape.width * shape.multiples[-1], 2 * channels, 3, padding=1)
            network.encoder.conv2 = nn.utils.weight_norm(last)
        self.encoder, self.decoder = network.encoder, network.decoder

    def frames(self, length: int) -> int:
        return -(-length // self.hop)

    def raw(self, wave: Tensor) -> Tensor:
        padding = self.frames(wave.shape[-1]) * self.hop - wave.shape[-1]
        return self.encoder(F.pad(wave, (0, padding)))

    def decode(self, z: Tensor, length: int) -> Tensor:
        return self.decoder(z)[..., :length]


def contenders(shape: Shape) -> dict[str, AudioAutoencoder]:
    """Each by its name; ours has the weights of diffusers', all of them away from their start."""
    theirs = Diffusers(shape)
    for name, parameter in theirs.named_parameters():
        if "alpha" in name or "beta" in name:
            nn.init.normal_(parameter, std=0.3)
    ours = OobleckAutoencoder(
        shape.channels, AUDIO_CHANNELS, shape.width, shape.multiples, shape.strides
    )
    for own, other in ((ours.encoder, theirs.encoder), (ours.decoder, theirs.decoder)):
        for a, b in zip(own.parameters(), other.parameters(), strict=True):
            a.data.copy_(b.data.view_as(a))
    size = {"channels": shape.channels, "hop": ours.hop, "audio_channels": AUDIO_CHANNELS}
    spectral = instantiate({**_config("vae")["model"], **size, "_partial_": False})
    for head in (spectral.encoder_head, spectral.decoder_head):
        nn.init.normal_(head.weight, std=0.01)  # at its start it multiplies by zeros
    return {"ours": ours, "diffusers": theirs, "spectral": spectral}


def _config(model: str) -> dict[str, Any]:
    return plain(composed("train", f"model={model}", "name=benchmark", "trainer=cpu"))


class Training(AutoencoderModule):
    """``train.py``'s module with a step that can be called from outside a trainer."""

    def __init__(self, network: AudioAutoencoder, shape: Shape, adversary: bool) -> None:
        cfg = _config("vae_oobleck")
        critic = instantiate(cfg["discriminator"], audio_channels=AUDIO_CHANNELS)
        super().__init__(
            Autoencoder(network, RATE),
            instantiate(cfg["reconstruction"], sample_rate=RATE),
            instantiate(cfg["optimizer"]), instantiate(cfg["schedule"]),
            discriminator=critic if adversary else None,
            **{**cfg["vae"], "adversarial_start": 0},
        )  # fmt: skip
        self._made = self.configure_optimizers()
        self.wave = 0.1 * torch.randn(shape.batch, AUDIO_CHANNELS, shape.length)
        self.batch = Batch(self.wave, None, [{}] * shape.batch, None, [""] * shape.batch)
        self.backwards = 0
        # The first layer of the encoder is the last that a gradient reaches.
        next(network.get_submodule("encoder").parameters()).register_hook(self._count)

    def _count(self, gradient: Tensor) -> None:
        self.backwards += 1

    def _step(self, index: int, loss: Tensor, module: nn.Module, batch_idx: int) -> None:
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), self.clip)
        self._made[index].step()
        self._made[index].zero_grad()

    def step(self) -> None:
        """All that training does with a batch."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # there is no trainer to log to
            self.training_step(self.batch, 0)

    def adversary_step(self, detached: bool = True) -> None:
        """The generator's forward pass and the adversary's step on what it made.

        Not ``detached``, the gradient goes on into the generator, where nobody wants it.
        """
        made = self.made()
        self._train_discriminator(self.wave, made.detach() if detached else made, 0)
        self.representation.network.zero_grad()

    def network_step(self) -> None:
        """Forward and backward pass of the network alone."""
        self.made().square().mean().backward()
        self.representation.network.zero_grad()

    def made(self) -> Tensor:
        """(B, A, L), what the network makes of the batch."""
        network = self.representation.network
        return network.decode(network.encode(self.wave).sample(), self.wave.shape[-1])
