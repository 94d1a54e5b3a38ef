"""Config -> objects. The only room that sees the whole config; derived sizes flow here."""

from glissando.build.config import plain, whole_number
from glissando.build.data import encoded, measure, prepared, ranges
from glissando.build.denoising import Denoising, bare_network, denoising
from glissando.build.representations import (
    complete,
    latent_audio,
    latent_mel,
    rebuilt,
    representation,
    spectrogram,
    trained,
    untrained,
)
from glissando.build.stages import Run, autoencoder, diffusion, generator
from glissando.build.vocoders import cascade

__all__ = [
    "Denoising",
    "Run",
    "autoencoder",
    "bare_network",
    "cascade",
    "complete",
    "denoising",
    "diffusion",
    "encoded",
    "generator",
    "latent_audio",
    "latent_mel",
    "measure",
    "plain",
    "prepared",
    "ranges",
    "rebuilt",
    "representation",
    "spectrogram",
    "trained",
    "untrained",
    "whole_number",
]
