"""What a picture of a clip shows, at a size that fits a picture however long the clip is."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from glissando.audio import as_channels
from glissando.mel import FLOOR, MelSpectrogram, hz_to_mel

COLUMNS = 1200  # at most this many points in time: about the width of a picture in pixels
BANDS = 128
_DB = 20 / float(np.log(10))  # natural log of a magnitude -> decibel
SILENCE_DB = _DB * float(np.log(FLOOR))
_TICKS_HZ = (250, 500, 1000, 2000, 4000, 8000, 16000)


@torch.no_grad()
def mel_decibels(wave: Tensor | np.ndarray, sample_rate: int) -> np.ndarray:
    """Log-mel of (C, L) or (L,) samples, in dB, averaged over channels -> (BANDS, <= COLUMNS).

    From 30 Hz to half the sample rate; a long clip shows the loudest frame of each column, so that
    no note is lost between two columns. An empty wave is one silent column.
    """
    samples = torch.from_numpy(as_channels(wave))
    n_fft = 2048
    samples = F.pad(samples, (0, max(0, 1 - samples.shape[-1])))
    hop = min(max(samples.shape[-1] // COLUMNS, 64), n_fft)
    mel = MelSpectrogram(sample_rate, n_fft, hop, BANDS, f_min=30.0)
    magnitude = mel(samples[None])[0].mean(dim=0)  # (BANDS, T)
    if magnitude.shape[-1] > COLUMNS:
        magnitude = F.adaptive_max_pool1d(magnitude, COLUMNS)
    return _DB * magnitude.clamp(min=FLOOR).log().numpy()


def envelope(wave: Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest sample over channels in each of at most COLUMNS equal parts."""
    samples = as_channels(wave)
    if samples.shape[-1] == 0:
        return np.zeros(1), np.zeros(1)
    low, high = samples.min(axis=0), samples.max(axis=0)
    starts = np.linspace(0, len(low), min(COLUMNS, len(low)), endpoint=False).astype(np.int64)
    return np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)


def frequency_ticks(sample_rate: int, gap: float) -> tuple[list[float], list[str]]:
    """Where octave marks lie between 0 (bottom) and 1 (top) of the mel axis, and their labels.

    Low octaves are narrow on this axis: a mark closer than `gap` to the one above is left out.
    """
    ends = hz_to_mel(torch.tensor([30.0, sample_rate / 2]))
    places, labels, above = [], [], 1.0
    for hz in reversed(_TICKS_HZ):
        mel = hz_to_mel(torch.tensor(float(hz)))
        place = float((mel - ends[0]) / (ends[1] - ends[0]))
        if above - place >= gap:
            places.append(place)
            labels.append(f"{hz} Hz" if hz < 1000 else f"{hz // 1000} kHz")
            above = place
    return places, labels
