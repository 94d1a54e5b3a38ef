"""Rhythm: where something begins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from glissando.controls.base import Control, power_at, window_size
from glissando.mel import mel_filters

WINDOW = 0.03
"""Seconds of a spectrum: less than lies between two notes of a fast tune."""
BANDS = 40
COMPRESSION = 1000.0
"""Amplitudes far below 1 / 1000 are as good as silence."""


@dataclass(frozen=True)
class Rhythm(Control):
    """Spectral flux: by how much the bands' log magnitudes rise within a column, their mean.

    0 where nothing begins; an onset out of silence at full level reaches a few units. Music
    ControlNet takes a trained network's probabilities of beats and downbeats here; this needs no
    weights and says what a player hears as onsets (Böck & Widmer 2013 give the family).
    """

    name: ClassVar[str] = "rhythm"
    dim: ClassVar[int] = 1

    def curve(self, wave: Tensor, sample_rate: int) -> Tensor:
        n_fft = window_size(sample_rate, WINDOW)
        edges = torch.arange(self.columns(wave.shape[1], sample_rate) + 1) / self.rate
        edges = edges.clamp(max=wave.shape[1] / sample_rate)
        magnitudes = power_at(wave, edges, sample_rate, n_fft).sqrt()
        filters = mel_filters(sample_rate, n_fft, BANDS, 30.0, min(11000.0, sample_rate / 2))
        share = filters / filters.sum(1, keepdim=True).clamp(min=math.ulp(1))
        bands = torch.log1p(COMPRESSION * (share @ magnitudes))
        return bands.diff(dim=1).clamp(min=0).mean(0, keepdim=True)
