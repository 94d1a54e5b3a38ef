"""The Slaney mel filterbank and a mel spectrogram, in closed form.

The same numbers as ``transformers.audio_utils.mel_filter_bank(norm="slaney",
mel_scale="slaney")`` and ``librosa.filters.mel``; importing either costs seconds, this costs
nothing. Scale and area normalization after M. Slaney, *Auditory Toolbox* (1998).
"""

from __future__ import annotations

from math import log

import torch
from torch import Tensor, nn

FLOOR = 1e-5
_LINEAR_HZ = 200 / 3  # below 1 kHz a mel is this many Hz
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ  # 15
_LOG_STEP = log(6.4) / 27  # above 1 kHz a mel multiplies the frequency by exp(_LOG_STEP)


def hz_to_mel(hz: Tensor) -> Tensor:
    """Slaney's mel of frequencies in Hz (>= 0); any shape."""
    above = _BREAK_MEL + torch.log(hz.clamp(min=_BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return torch.where(hz < _BREAK_HZ, hz / _LINEAR_HZ, above)


def mel_to_hz(mel: Tensor) -> Tensor:
    """Inverse of `hz_to_mel`; any shape."""
    above = _BREAK_HZ * torch.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return torch.where(mel < _BREAK_MEL, mel * _LINEAR_HZ, above)


def mel_filters(
    sample_rate: int, n_fft: int, bands: int, f_min: float = 0.0, f_max: float | None = None
) -> Tensor:
    """Triangular filters of unit area, (bands, n_fft // 2 + 1) float32; row b weighs band b's bins.

    `f_min` and `f_max` are in Hz; `f_max` defaults to half the sample rate. Raises ValueError
    unless 0 <= f_min < f_max <= sample_rate / 2. With many bands and a small `n_fft` the lowest
    filters may fall between two bins and be all zero, as they are in librosa.
    """
    top = sample_rate / 2 if f_max is None else f_max
    if not 0 <= f_min < top <= sample_rate / 2:
        raise ValueError(f"need 0 <= f_min < f_max <= {sample_rate / 2:g}, got {f_min} and {top}")
    ends = hz_to_mel(torch.tensor([f_min, top], dtype=torch.float64))
    steps = torch.arange(bands + 2, dtype=torch.float64) / (bands + 1)
    corners = mel_to_hz(ends[0] + steps * (ends[1] - ends[0]))
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (sample_rate / n_fft)
    widths = corners.diff()
    slopes = bins - corners[:, None]  # (bands + 2, bins)
    rising = slopes[:-2] / widths[:-1, None]
    falling = -slopes[2:] / widths[1:, None]
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return (triangles * (2 / (corners[2:] - corners[:-2]))[:, None]).float()


class MelSpectrogram(nn.Module):
    """Magnitude mel spectrogram of a waveform in [-1, 1].

    Frames are centred (reflection padding; zero padding where the wave is too short to reflect)
    with a periodic Hann window of `n_fft`, so that L samples give L // hop + 1 frames.
    """

    def __init__(
        self,
        sample_rate: int,
        n_fft: int = 1024,
        hop: int = 256,
        bands: int = 80,
        f_min: float = 0.0,
        f_max: float | None = None,
    ) -> None:
        super().__init__()
        self.sample_rate, self.n_fft, self.hop, self.bands = sample_rate, n_fft, hop, bands
        filters = mel_filters(sample_rate, n_fft, bands, f_min, f_max)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.filters: Tensor
        self.window: Tensor

    def forward(self, wave: Tensor) -> Tensor:
        """Wave (B, C, L) -> magnitudes (B, C, bands, T) >= 0, T = L // hop + 1.

        Runs in float32 under autocast: an FFT in half precision loses what a log floor of 1e-5
        then shows.
        """
        with torch.autocast(wave.device.type, enabled=False):
            flat = wave.float().flatten(0, -2)
            reflects = wave.shape[-1] > self.n_fft // 2
            spectrum = torch.stft(
                flat,
                self.n_fft,
                self.hop,
                window=self.window,
                pad_mode="reflect" if reflects else "constant",
                return_complex=True,
            )
            mel = self.filters @ spectrum.abs()
        return mel.unflatten(0, wave.shape[:-1])

    def log(self, wave: Tensor, floor: float = FLOOR) -> Tensor:
        """Wave (B, C, L) -> natural log of the magnitudes floored at `floor`, (B, C, bands, T)."""
        return self(wave).clamp(min=floor).log()
