"""How far a decoded waveform is from the original, as training losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from auraloss.freq import MultiResolutionSTFTLoss, SpectralConvergenceLoss, STFTLoss
from auraloss.perceptual import SumAndDifference
from torch import Tensor, nn

from glissando.mel import MelSpectrogram

QUIET = 1e-2  # RMS: a target below it counts as this loud where an error is divided by its level


class _FlooredConvergence(nn.Module):
    """||Y - X|| / max(||Y||, that of noise as loud as ``QUIET``).

    auraloss divides by ||Y||: a silent target then costs thousands.
    """

    def __init__(self, window: Tensor) -> None:
        super().__init__()
        # Noise of RMS r has magnitudes of RMS r ||window||.
        self.floor = QUIET * float(window.norm())

    def forward(self, x_mag: Tensor, y_mag: Tensor) -> Tensor:
        floor = self.floor * y_mag.numel() ** 0.5
        return torch.norm(y_mag - x_mag) / torch.norm(y_mag).clamp_min(floor)


def _magnitude_only(resolution: STFTLoss) -> Callable[[Tensor], tuple[Tensor, None]]:
    """auraloss' STFT without the phase it never uses here: half of its time on a processor."""
    floor = resolution.eps**0.5

    def stft(x: Tensor) -> tuple[Tensor, None]:
        spectrum = torch.stft(
            x, resolution.fft_size, resolution.hop_size, resolution.win_length,
            resolution.window, return_complex=True,
        )  # fmt: skip
        return spectrum.abs().clamp_min(floor), None

    return stft


class STFTDistance(nn.Module):
    """Multi-resolution STFT loss (Yamamoto et al. 2020), auraloss inside.

    Stereo is compared as sum and difference (Steinmetz et al. 2020), so that a collapsed image
    costs something; mono and more channels are compared channel by channel.
    """

    def __init__(
        self, sample_rate: int, sizes: Sequence[int] = (2048, 1024, 512, 256, 128, 64, 32),
        perceptual: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stft = MultiResolutionSTFTLoss(
            fft_sizes=list(sizes),
            hop_sizes=[size // 4 for size in sizes],
            win_lengths=list(sizes),
            sample_rate=sample_rate,
            perceptual_weighting=perceptual,
        )
        self.rotate = SumAndDifference()
        resolution: Any
        for resolution in self.stft.stft_losses:
            if not isinstance(resolution.spectralconv, SpectralConvergenceLoss):
                raise TypeError("auraloss changed: its STFT loss lacks the term made safe here")
            resolution.spectralconv = _FlooredConvergence(resolution.window)
            resolution.stft = _magnitude_only(resolution)
        self.requires_grad_(False)  # auraloss keeps its A-weighting filter as a Parameter

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(B, A, L), (B, A, L) -> scalar. Always float32: A-weighting fails in bf16."""
        with torch.autocast(prediction.device.type, enabled=False):
            prediction, target = prediction.float(), target.float()
            if prediction.shape[1] == 2:
                prediction, target = (
                    torch.cat(self.rotate(stereo), 1) for stereo in (prediction, target)
                )
            return self.stft(prediction, target)


class MelDistance(nn.Module):
    """Mean absolute difference of natural-log mel spectrograms over several resolutions."""

    def __init__(
        self, sample_rate: int, sizes: Sequence[int] = (2048, 1024, 512),
        bands: Sequence[int] = (128, 80, 40),
    ) -> None:  # fmt: skip
        super().__init__()
        self.mels = nn.ModuleList(
            MelSpectrogram(sample_rate, size, size // 4, number)
            for size, number in zip(sizes, bands, strict=True)
        )

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(B, A, L), (B, A, L) -> scalar."""
        mels = cast("Iterable[MelSpectrogram]", self.mels)
        distances = [(mel.log(prediction) - mel.log(target)).abs().mean() for mel in mels]
        return torch.stack(distances).mean()


class WaveDistance(nn.Module):
    """||x - y|| / ||y|| per clip, averaged: the one term that rewards the right phase.

    It also gives a silent prediction a gradient, which spectral terms do not. ``floor`` is an RMS
    below which a target counts as this loud.
    """

    def __init__(self, floor: float = QUIET) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(B, A, L), (B, A, L) -> scalar."""
        error = (prediction - target).float().square().mean((1, 2)).add(1e-12).sqrt()
        level = target.float().square().mean((1, 2)).sqrt()
        return (error / level.clamp_min(self.floor)).mean()


class Reconstruction(nn.Module):
    """The weighted sum of the terms above; ``forward`` returns every term by name, weighted."""

    def __init__(
        self,
        sample_rate: int,
        stft: float = 1.0,
        mel: float = 1.0,
        wave: float = 1.0,
        sizes: Sequence[int] = (2048, 1024, 512, 256, 128),
        perceptual: bool = False,
    ) -> None:
        super().__init__()
        terms = {
            "stft": (stft, lambda: STFTDistance(sample_rate, sizes, perceptual)),
            "mel": (mel, lambda: MelDistance(sample_rate)),
            "wave": (wave, WaveDistance),
        }
        self.weights = {name: weight for name, (weight, _) in terms.items() if weight}
        self.terms = nn.ModuleDict({name: terms[name][1]() for name in self.weights})

    def forward(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """(B, A, L), (B, A, L) -> {term: weighted scalar}."""
        return {
            name: weight * self.terms[name](prediction, target)
            for name, weight in self.weights.items()
        }


class MapReconstruction(nn.Module):
    """Mean absolute difference of maps, such as normalized mel spectrograms (AudioLDM, MusicLDM).

    A mean over all points: latent diffusion's code sums them.
    """

    def __init__(self, l1: float = 1.0) -> None:
        super().__init__()
        self.weights = {"l1": l1}

    def forward(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """(B, A, F, T), (B, A, F, T) -> {term: weighted scalar}."""
        return {"l1": self.weights["l1"] * (prediction - target).abs().mean()}
