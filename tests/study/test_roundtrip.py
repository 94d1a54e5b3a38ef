"""Figures of a round trip, against the metrics themselves."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from glissando.losses.reconstruction import STFTDistance
from glissando.metrics.reconstruction import MelError, si_sdr
from glissando.representations.base import Representation
from glissando.representations.complex_stft import ComplexSTFT
from glissando.representations.spectrogram import Spectrogram
from glissando.representations.waveform import Waveform
from glissando.study.roundtrip import round_trip, values_per_second
from glissando.vocoders.griffin_lim import GriffinLim

RATE = 8000


def mel(channels: int = 1) -> Spectrogram:
    vocoder = partial(GriffinLim, iterations=2)
    return Spectrogram(RATE, channels, vocoder, n_fft=256, hop=64, bands=40)


def waves(channels: int = 1) -> list[torch.Tensor]:
    """Clips of several lengths."""
    chance = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(1, channels, n, generator=chance) for n in (4000, 4001, 9000)]


@pytest.mark.parametrize("channels", [1, 2])
def test_figures_are_means_over_clips(channels: int) -> None:
    form, given = mel(channels), waves(channels)
    trip, kept = round_trip(form, given, keep=2)
    again = [form.decode(form.encode(wave), wave.shape[-1]) for wave in given]

    def mean(distance: object) -> float:
        pairs = zip(again, given, strict=True)
        return sum(float(distance(a, b)) for a, b in pairs) / len(given)  # type: ignore[operator]

    assert trip.si_sdr == pytest.approx(mean(si_sdr), abs=1e-3)
    assert trip.mel == pytest.approx(mean(MelError(RATE)), rel=1e-4)
    assert trip.stft == pytest.approx(mean(STFTDistance(RATE)), rel=1e-4)
    assert (trip.clips, trip.seconds) == (3, 17001 / RATE)
    assert min(trip.encode, trip.decode) > 0
    assert [each.shape for each in kept] == [(channels, 4000), (channels, 4001)]
    torch.testing.assert_close(kept[1], again[1][0])


def test_one_thread_and_then_as_many_as_before() -> None:
    seen = []

    class Spied(Waveform):
        def encode_piece(self, wave: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return super().encode_piece(wave)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        round_trip(Spied(RATE, 1), waves())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1] * 4  # one to warm up


@pytest.mark.parametrize("level", [0.0, 5.0])
def test_silent_and_clipped_clips_have_figures(level: float) -> None:
    trip, _ = round_trip(mel(2), [(level * wave).clamp(-1, 1) for wave in waves(2)])
    assert all(math.isfinite(figure) for figure in (trip.si_sdr, trip.mel, trip.stft))


def test_no_clip_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no clip"):
        round_trip(Waveform(RATE, 1), [])


@pytest.mark.parametrize(("form", "values"), [
    (Waveform(RATE, 1), RATE), (Waveform(RATE, 2), 2 * RATE),
    (ComplexSTFT(RATE, 1, n_fft=126, hop=64), 2 * 64 * RATE / 64), (mel(), 40 * RATE / 64),
])  # fmt: skip
def test_the_rate_of_a_latent(form: Representation, values: float) -> None:
    assert values_per_second(form) == values
    assert form.encode(torch.zeros(1, form.audio_channels, RATE)).numel() == pytest.approx(
        values, rel=0.02
    )
