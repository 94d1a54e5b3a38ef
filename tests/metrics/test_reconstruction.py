from __future__ import annotations

import math

import librosa
import numpy as np
import pytest
import torch
from auraloss.time import SISDRLoss

from glissando.metrics.reconstruction import MelError, si_sdr, snr


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_snr_closed_form() -> None:
    target = torch.ones(2, 2, 50)
    prediction = torch.stack([target[0] * 1.1, target[1] * 2])
    torch.testing.assert_close(
        snr(prediction, target), torch.tensor([20.0, 0.0]), atol=1e-4, rtol=0
    )


def test_si_sdr_closed_form() -> None:
    """A gain and an offset cost nothing; orthogonal noise of a tenth of the level is 20 dB."""
    time = torch.arange(1000) / 1000
    target = torch.sin(2 * math.pi * 10 * time).expand(1, 1, -1)
    error = torch.sin(2 * math.pi * 37 * time).expand(1, 1, -1)
    for gain in (0.1, 1.0, -3.0):
        prediction = gain * (target + 0.1 * error) + 0.5
        assert si_sdr(prediction, target).item() == pytest.approx(20, abs=1e-3)


def test_si_sdr_is_auralosss() -> None:
    prediction, target = noise(3, 1, 500), noise(3, 1, 500, seed=1)
    prediction = prediction + target
    for row in range(3):
        expected = -SISDRLoss()(prediction[row : row + 1], target[row : row + 1])
        torch.testing.assert_close(si_sdr(prediction, target)[row], expected, atol=1e-3, rtol=1e-4)


def test_perfect_and_silent_are_finite() -> None:
    wave = noise(1, 1, 500)
    assert si_sdr(wave, wave) > 100
    for prediction, target in [(0 * wave, wave), (wave, 0 * wave), (0 * wave, 0 * wave)]:
        assert si_sdr(prediction, target).isfinite().all()
        assert snr(prediction, target).isfinite().all()
    assert snr(0 * wave, wave).item() == pytest.approx(0)


def test_mel_error_is_librosas() -> None:
    prediction, target = 0.1 * noise(2, 1, 8000), 0.1 * noise(2, 1, 8000, seed=1)

    def mel(wave: torch.Tensor) -> np.ndarray:
        magnitude = librosa.feature.melspectrogram(
            y=wave.numpy(), sr=22050, n_fft=1024, hop_length=256, n_mels=80, power=1.0,
            pad_mode="reflect",
        )  # fmt: skip
        return np.log(np.maximum(magnitude, 1e-5))

    expected = np.abs(mel(prediction) - mel(target)).mean((1, 2, 3))
    ours = MelError(22050)(prediction, target).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-3)
