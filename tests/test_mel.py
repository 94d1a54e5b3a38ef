"""The mel filterbank and spectrogram against librosa's and transformers'."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from glissando.mel import MelSpectrogram, hz_to_mel, mel_filters, mel_to_hz

SETTINGS = [
    (22050, 1024, 80, 0.0, 11025.0),
    (44100, 2048, 128, 20.0, 16000.0),
    (16000, 512, 40, 50.0, 8000.0),
    (22050, 256, 80, 0.0, 11025.0),  # more bands than bins: some filters are empty
]


@pytest.mark.filterwarnings("ignore:Empty filters")
@pytest.mark.parametrize(("rate", "n_fft", "bands", "low", "high"), SETTINGS)
def test_filters_equal_librosas(rate: int, n_fft: int, bands: int, low: float, high: float) -> None:
    expected = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=bands, fmin=low, fmax=high)
    filters = mel_filters(rate, n_fft, bands, low, high)
    assert filters.dtype == torch.float32
    np.testing.assert_allclose(filters.numpy(), expected, atol=1e-8)


@pytest.mark.slow  # importing transformers takes seconds
@pytest.mark.filterwarnings("ignore:At least one mel filter")
@pytest.mark.parametrize(("rate", "n_fft", "bands", "low", "high"), SETTINGS)
def test_filters_equal_transformers(
    rate: int, n_fft: int, bands: int, low: float, high: float
) -> None:
    from transformers.audio_utils import mel_filter_bank

    bins = n_fft // 2 + 1
    expected = mel_filter_bank(bins, bands, low, high, rate, norm="slaney", mel_scale="slaney")
    filters = mel_filters(rate, n_fft, bands, low, high)
    np.testing.assert_allclose(filters.numpy(), expected.T, atol=1e-8)


def test_scale_is_its_own_inverse_and_known_at_its_corners() -> None:
    hz = torch.tensor([0.0, 500.0, 1000.0, 6400.0], dtype=torch.float64)
    assert hz_to_mel(hz).tolist() == pytest.approx([0, 7.5, 15, 42])
    many = torch.linspace(0, 20000, 999, dtype=torch.float64)
    torch.testing.assert_close(mel_to_hz(hz_to_mel(many)), many)


def test_frequencies_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="need 0 <= f_min < f_max <= 8000"):
        mel_filters(16000, 512, 40, 0.0, 9000.0)


def test_spectrogram_equals_librosas() -> None:
    wave = torch.randn(2, 3, 5000, generator=torch.Generator().manual_seed(0))
    mel = MelSpectrogram(22050, n_fft=512, hop=100, bands=40)
    expected = librosa.feature.melspectrogram(
        y=wave.numpy(), sr=22050, n_fft=512, hop_length=100, n_mels=40, power=1, pad_mode="reflect"
    )
    assert mel(wave).shape == (2, 3, 40, 51)
    np.testing.assert_allclose(mel(wave).numpy(), expected, rtol=1e-4, atol=1e-5)
    log = np.log(np.maximum(expected, 1e-5))
    np.testing.assert_allclose(mel.log(wave).numpy(), log, atol=1e-3)


def test_silence_and_clips_shorter_than_a_window() -> None:
    mel = MelSpectrogram(22050)
    for length in (1, 300, 512, 513):
        quiet = torch.zeros(1, 1, length, requires_grad=True)
        log = mel.log(quiet)
        assert log.shape == (1, 1, 80, length // 256 + 1)
        torch.testing.assert_close(log, torch.full_like(log, 1e-5).log())
        mel(quiet).sum().backward()
        assert quiet.grad is not None
        assert torch.isfinite(quiet.grad).all()


def test_autocast_does_not_cost_precision() -> None:
    wave = torch.randn(1, 1, 4000, generator=torch.Generator().manual_seed(0))
    mel = MelSpectrogram(22050)
    with torch.autocast("cpu", torch.bfloat16):
        inside = mel(wave)
    torch.testing.assert_close(inside, mel(wave), rtol=0, atol=0)


def test_filters_are_no_part_of_a_checkpoint() -> None:
    assert not MelSpectrogram(22050).state_dict()
