"""Config -> objects. The only room that sees the whole config; derived sizes flow here."""

from glissando.build.config import plain, whole_number
from glissando.build.data import encoded, measure, prepared, ranges
from glissando.build.denoising import Denoising, bare_network, denoising
from glissando.build.representations import (
    complete,
    latent_audio,
    latent_map,
    rebuilt,
    representation,
    spectrogram,
    trained,
    untrained,
)
from glissando.build.stages import Run, autoencoder, diffusion

__all__ = [
    "Denoising",
    "Run",
    "autoencoder",
    "bare_network",
    "complete",
    "denoising",
    "diffusion",
    "encoded",
    "latent_audio",
    "latent_map",
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
