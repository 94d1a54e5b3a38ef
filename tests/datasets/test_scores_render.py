"""The synthesizer: what is asked for is what sounds, at any rate, at one loudness."""

from __future__ import annotations

import numpy as np
import pytest

from glissando.datasets.scores.instruments import INSTRUMENTS
from glissando.datasets.scores.render import (
    LOUDNESS,
    PEAK,
    brightness,
    default_font,
    font_identity,
    k_weighting,
    loudness,
    normalize,
    render,
)
from glissando.errors import UserError

for package in ("pretty_midi", "tinysoundfont"):
    pytest.importorskip(package)


def sine(f, seconds=2.0, rate=22050, amplitude=1.0):
    return amplitude * np.sin(2 * np.pi * f * np.arange(round(seconds * rate)) / rate)[None]


def level(wave):
    return 20 * np.log10(np.sqrt((wave**2).mean()) + 1e-12)


def test_k_weighting_is_the_standards_at_48_khz():
    """The coefficients printed in ITU-R BS.1770-4, tables 1 and 2."""
    signal = pytest.importorskip("scipy.signal")
    f = np.linspace(5, 23000, 200)
    b1 = [1.53512485958697, -2.69169618940638, 1.19839281085285]
    a1 = [1.0, -1.69065929318241, 0.73248077421585]
    b2, a2 = [1.0, -2.0, 1.0], [1.0, -1.99004745483398, 0.99007225036621]
    shelf = signal.freqz(b1, a1, f, fs=48000)[1]
    high = signal.freqz(b2, a2, f, fs=48000)[1]
    np.testing.assert_allclose(k_weighting(f, 48000), np.abs(shelf * high) ** 2, rtol=1e-6)


def test_loudness_of_a_full_scale_sine_is_as_the_standard_says():
    """BS.1770 without its -0.691 dB offset: 997 Hz at 0 dB FS measures -3.01 + 0.69 dB."""
    assert loudness(sine(997, rate=48000), 48000) == pytest.approx(-3.01 + 0.691, abs=0.02)


def test_normalize_reaches_the_loudness_or_the_peak():
    quiet = normalize(sine(440, amplitude=0.01), 22050)
    assert loudness(quiet, 22050) == pytest.approx(LOUDNESS, abs=1e-6)
    click = np.zeros((1, 22050))
    click[0, 100] = 0.3
    assert np.abs(normalize(click, 22050)).max() == pytest.approx(PEAK)
    assert not normalize(np.zeros((1, 100)), 22050).any()


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_each_instrument_sounds_its_pitch_when_it_is_asked_to(name):
    instrument = INSTRUMENTS[name]
    midi = max(60, instrument.low)
    wave = render([(1.0, 0.8, midi, 90)], instrument.program, 3.0, 22050)
    assert wave.shape == (1, 3 * 22050)
    assert level(wave[0, : round(0.98 * 22050)]) < level(wave[0, 22050 : 2 * 22050]) - 50
    part = wave[0, round(1.2 * 22050) : round(1.7 * 22050)]
    power = np.abs(np.fft.rfft(part * np.hanning(len(part)), 65536)) ** 2
    f = np.fft.rfftfreq(65536, 1 / 22050)
    octave = 440 * 2 ** ((midi - 69) / 12)
    strongest = f[power.argmax()] / octave
    # A partial, or the organ's 16-foot stop an octave below, or a music box's tuned bar.
    pitch_class = 12 * np.log2(strongest) % 12
    assert min(pitch_class, 12 - pitch_class) < 0.4 or pitch_class == pytest.approx(7.02, abs=0.4)


def test_the_rate_does_not_change_the_pitch_or_the_time():
    events = [(0.5, 1.0, 69, 90)]
    for rate in (16000, 22050, 32000, 44100, 48000):
        wave = render(events, 73, 2.0, rate)
        assert wave.shape == (1, 2 * rate)
        part = wave[0, round(0.8 * rate) : round(1.4 * rate)]
        power = np.abs(np.fft.rfft(part * np.hanning(len(part)), 2**18))
        assert np.fft.rfftfreq(2**18, 1 / rate)[power.argmax()] == pytest.approx(440, rel=0.01)
        loud = np.abs(wave[0]) > 0.1 * np.abs(wave).max()
        assert loud.argmax() / rate == pytest.approx(0.5, abs=0.08)


def test_bright_sounds_are_rendered_without_aliases():
    """A high harpsichord at 22.05 kHz equals the one made at 176.4 kHz and brought down."""
    soxr = pytest.importorskip("soxr")
    events = [(0.0, 0.9, 84, 90), (0.5, 0.9, 86, 90)]
    wave = render(events, 6, 1.5, 22050)[0].astype(np.float64)
    best = soxr.resample(render(events, 6, 1.5, 176400)[0].astype(np.float64), 176400, 22050)
    a, b = (np.abs(np.fft.rfft(w[: 22050 + 5000])) for w in (wave, best))
    a *= (a @ b) / (a @ a)
    assert 10 * np.log10(((a - b) ** 2).sum() / (b**2).sum()) < -22  # rendered directly: -14


def test_a_repeated_note_is_struck_again():
    events = [(0.0, 0.5, 60, 90), (0.5, 0.5, 60, 90)]
    twice = np.abs(render(events, 0, 1.2, 22050)[0])
    once = np.abs(render([(0.0, 1.0, 60, 90)], 0, 1.2, 22050)[0])

    def rise(wave):
        return wave[round(0.51 * 22050) :][:1500].max() / wave[round(0.4 * 22050) :][:1500].max()

    assert rise(twice) > 1.3 * rise(once)


def test_stereo_keeps_two_channels_and_mono_is_their_mean():
    events = [(0.0, 1.5, 60, 90), (0.0, 1.5, 64, 90)]
    strings = render(events, 48, 2.0, 44100, channels=2)
    piano = render(events, 0, 2.0, 44100, channels=2)
    assert strings.shape == (2, 88200)
    assert np.corrcoef(strings)[0, 1] < 0.9
    assert np.corrcoef(piano)[0, 1] > 0.999  # dual mono: the pitfall that the module describes
    mono = render(events, 0, 2.0, 44100)
    assert np.corrcoef(mono[0], piano.mean(axis=0))[0, 1] > 0.9999


def test_brightness_of_a_sine_is_its_frequency():
    assert brightness(sine(1000), 22050) == pytest.approx(1000, abs=2)


def test_another_font_is_used_and_named_by_content(tmp_path):
    copy = tmp_path / "copy.sf2"
    copy.write_bytes(default_font().read_bytes())
    assert font_identity(str(copy)) == font_identity(None)
    events = [(0.0, 0.5, 60, 90)]
    same = render(events, 0, 0.6, 22050, soundfont=str(copy))
    assert same.tobytes() == render(events, 0, 0.6, 22050).tobytes()


def test_a_font_that_is_missing_or_no_font_is_told(tmp_path):
    with pytest.raises(UserError, match=r"data\.soundfont=/nowhere\.sf2"):
        render([(0.0, 0.5, 60, 90)], 0, 1.0, 22050, soundfont="/nowhere.sf2")
    broken = tmp_path / "broken.sf2"
    broken.write_bytes(b"not a font")
    with pytest.raises(UserError, match=r"data\.soundfont=.*broken"):
        render([(0.0, 0.5, 60, 90)], 0, 1.0, 22050, soundfont=str(broken))
