"""Pictures of any clip, and what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from glissando.gallery.pictures import figure, mel_spectrogram_png, pair_figure, pair_png
from glissando.gallery.spectrum import (
    BANDS,
    COLUMNS,
    SILENCE_DB,
    envelope,
    frequency_ticks,
    mel_decibels,
)

RATE = 22050


def tone(seconds: float, hz: float = 1000.0, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "wave",
    [
        tone(6),
        np.stack([tone(2), 4 * tone(2)]),
        torch.zeros(1, 3 * RATE),
        tone(0.1),
        np.zeros(1),
        np.zeros((2, 0)),
        tone(150),
    ],
    ids=["mono", "loud stereo", "silence", "0.1 s", "one sample", "empty", "2.5 min"],
)
def test_every_clip_has_a_picture(tmp_path: Path, wave: np.ndarray) -> None:
    path = tmp_path / "folder" / "a.png"
    mel_spectrogram_png(wave, RATE, path, "costs $5_^ & <b> 慢" + " long" * 60)
    picture = imread(path)
    assert picture.shape[:2] == (396, 990)
    assert picture[..., :3].std() > 0.01


def test_the_same_clip_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        mel_spectrogram_png(tone(1), RATE, tmp_path / name, "a tone")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_figures_are_arrays_for_loggers() -> None:
    picture = figure(tone(1), RATE, "a tone")
    assert (picture.shape, picture.dtype) == ((396, 990, 3), np.uint8)
    assert not np.array_equal(picture, figure(tone(1, hz=3000), RATE, "a tone"))


def test_a_pair_shows_both_and_their_difference(tmp_path: Path) -> None:
    wave = tone(2)
    pair_png(wave, wave[:-100], RATE, tmp_path / "pair.png", "a codec")
    assert imread(tmp_path / "pair.png").shape[:2] == (704, 990)
    same = pair_figure(wave, wave, RATE)
    other = pair_figure(wave, 0.1 * wave, RATE)
    middle = slice(250, 440)  # rows of the reconstruction
    lower = slice(480, 650)  # rows of the difference
    assert np.ptp(same[lower, 100:800], axis=(0, 1)).max() == 0  # no difference: one colour
    for rows in (middle, lower):
        assert not np.array_equal(same[rows, 100:800], other[rows, 100:800])


@pytest.mark.parametrize("hz", [440.0, 1000.0, 4000.0])
def test_a_tone_lies_where_the_axis_says(hz: float) -> None:
    decibels = mel_decibels(tone(1, hz), RATE)
    assert decibels.shape[0] == BANDS
    places, labels = frequency_ticks(RATE, gap=0)
    marks = [float(label.split()[0]) * (1000 if "kHz" in label else 1) for label in labels]
    assert marks == [8000, 4000, 2000, 1000, 500, 250]
    peak = (decibels.mean(axis=1).argmax() + 0.5) / BANDS
    expected = np.interp(np.log(hz), np.log(marks[::-1]), places[::-1])
    assert peak == pytest.approx(expected, abs=0.02)


def test_decibels_follow_the_level_and_end_at_the_floor() -> None:
    loud, soft = mel_decibels(tone(1), RATE).max(), mel_decibels(0.1 * tone(1), RATE).max()
    assert loud - soft == pytest.approx(20, abs=0.01)
    assert np.allclose(mel_decibels(np.zeros(RATE), RATE), SILENCE_DB, atol=1e-3)


def test_a_long_clip_is_not_wider_than_the_picture_and_loses_no_note() -> None:
    wave = np.zeros(200 * RATE, np.float32)
    wave[100 * RATE : 100 * RATE + 2000] = tone(1)[:2000]
    decibels = mel_decibels(wave, RATE)
    assert decibels.shape == (BANDS, COLUMNS)
    column = decibels.max(axis=0).argmax()
    assert column == pytest.approx(COLUMNS / 2, abs=2)
    assert decibels.max() > -20


def test_the_envelope_keeps_every_peak() -> None:
    wave = np.zeros((2, 50_000), np.float32)
    wave[0, 12_345], wave[1, 40_000] = 0.8, -0.6
    low, high = envelope(wave)
    assert len(low) == len(high) == COLUMNS
    assert (high.argmax(), high.max()) == (12_345 * COLUMNS // 50_000, np.float32(0.8))
    assert (low.argmin(), low.min()) == (40_000 * COLUMNS // 50_000, np.float32(-0.6))
