"""How well a waveform came back: numbers to report, per clip and without gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glissando.mel import MelSpectrogram


def snr(prediction: Tensor, target: Tensor) -> Tensor:
    """Signal-to-noise ratio in dB per clip: (B, A, L), (B, A, L) -> (B,)."""
    noise = (prediction - target).square().sum((1, 2))
    return 10 * (target.square().sum((1, 2)).clamp_min(1e-12) / noise.clamp_min(1e-12)).log10()


def si_sdr(prediction: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, eq. 3): -> (B,).

    Both signals are centred per channel; the best scale is found over the whole clip.
    """
    prediction = prediction - prediction.mean(-1, keepdim=True)
    target = target - target.mean(-1, keepdim=True)
    energy = target.square().sum((1, 2)).clamp_min(1e-12)
    scale = (prediction * target).sum((1, 2)) / energy
    return snr(prediction, scale[:, None, None] * target)


class MelError(nn.Module):
    """Mean absolute difference of natural-log mel spectrograms, per clip.

    The yardstick of docs/recipe.md: 80 Slaney bands, FFT 1024, hop 256, magnitudes floored at 1e-5.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.mel = MelSpectrogram(sample_rate, n_fft=1024, hop=256, bands=80)

    @torch.no_grad()
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(B, A, L), (B, A, L) -> (B,)."""
        return (self.mel.log(prediction) - self.mel.log(target)).abs().mean((1, 2, 3))
