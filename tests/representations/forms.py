"""Small representations of every kind, for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from glissando.networks.bottlenecks.rvq import RVQ
from glissando.networks.oobleck import OobleckAutoencoder
from glissando.networks.spectral import SpectralAutoencoder
from glissando.networks.vae2d import MapAutoencoder
from glissando.representations.autoencoder import Autoencoder
from glissando.representations.base import Representation
from glissando.representations.complex_stft import ComplexSTFT
from glissando.representations.spectrogram import Spectrogram
from glissando.representations.waveform import Waveform
from glissando.vocoders.griffin_lim import GriffinLim

RATE = 8000


def waveform(audio_channels: int, rate: int = RATE) -> Waveform:
    return Waveform(rate, audio_channels)


def complex_stft(audio_channels: int, rate: int = RATE, **settings: Any) -> ComplexSTFT:
    return ComplexSTFT(rate, audio_channels, **settings)


def spectrogram(audio_channels: int, rate: int = RATE, **settings: Any) -> Spectrogram:
    sizes: dict[str, Any] = {"n_fft": 256, "hop": 64, **settings}
    return Spectrogram(rate, audio_channels, partial(GriffinLim, iterations=4), **sizes)


def spectral(audio_channels: int) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(SpectralAutoencoder(4, audio_channels, 16, 12, 1, 12, 2), RATE).eval()


def oobleck(audio_channels: int) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(OobleckAutoencoder(4, audio_channels, 4, (1, 2), (3, 8)), RATE).eval()


def quantized(audio_channels: int) -> Autoencoder:
    torch.manual_seed(0)
    books = partial(RVQ, count=3, size=5, width=2)
    network = OobleckAutoencoder(4, audio_channels, 4, (1, 2), (3, 8), bottleneck=books)
    return Autoencoder(network, RATE).eval()


def latent_mel(audio_channels: int) -> Autoencoder:
    torch.manual_seed(0)
    inner = spectrogram(audio_channels, bands=20)
    inner.measure(torch.full((audio_channels,), -5.0), torch.full((audio_channels,), 29.0), 1.0)
    network = MapAutoencoder(3, audio_channels, 4, (1, 2), ((2, 2),), 1)
    return Autoencoder(network, RATE, inner).eval()


FIXED: dict[str, Callable[..., Representation]] = {  # of channels and, if not 8 kHz, a rate
    "waveform": waveform,
    "complex_stft": complex_stft,
    "complex_stft 300/64": partial(complex_stft, n_fft=300, hop=64, window=250, power=0.2),
    "spectrogram": spectrogram,
    "mel": partial(spectrogram, bands=40),
    "mel after Riffusion": partial(spectrogram, bands=40, f_max=3000, power=0.25, window=200),
}
LEARNED: dict[str, Callable[[int], Representation]] = {
    "spectral": spectral,
    "oobleck": oobleck,
    "quantized": quantized,
    "latent mel": latent_mel,
}
EXACT = [name for name in FIXED if name.startswith(("waveform", "complex_stft"))]
