"""Curves of known sounds, and those of scores against the notes that were played."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy.signal import butter, freqz, savgol_filter

from glissando.controls import Control, Dynamics, Melody, Rhythm
from glissando.controls.dynamics import savitzky_golay
from glissando.controls.melody import high_pass
from glissando.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "conditioner"
ALL = [Melody(), Dynamics(), Rhythm()]


def sine(hz: float, seconds: float = 1.0, rate: int = 22050, level: float = 0.3) -> torch.Tensor:
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return (level * torch.sin(2 * math.pi * hz * time)).float()[None]


def hz(pitch: int) -> float:
    return 440 * 2 ** ((pitch - 69) / 12)


# ---- what all promise ------------------------------------------------------------------------


@pytest.mark.parametrize("control", ALL, ids=lambda c: c.name)
@pytest.mark.parametrize(("rate", "samples"), [(8000, 1), (22050, 7001), (48000, 48000)])
def test_shape_rate_and_channels(control: Control, rate: int, samples: int) -> None:
    wave = 0.2 * torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    curve = control(wave, rate)
    assert curve.shape == (control.dim, math.ceil(samples * 50 / rate))
    assert curve.isfinite().all()
    mono = control(wave[:1], rate)
    torch.testing.assert_close(control(wave[:1].expand(3, -1), rate), mono)


@pytest.mark.parametrize("control", ALL, ids=lambda c: c.name)
def test_silence_and_clipping(control: Control) -> None:
    silent = control(torch.zeros(1, 16000), 8000)
    assert (silent == (-80 if control.name == "dynamics" else 0)).all()
    assert control(torch.ones(2, 16000), 8000).isfinite().all()
    with pytest.raises(ValueError, match="audio"):
        control(torch.zeros(1, 0), 8000)


@pytest.mark.parametrize("control", ALL, ids=lambda c: c.name)
def test_long_audio_is_the_same_piecewise(control: Control) -> None:
    """Longer than is looked at in one call: the middle does not know of it."""
    wave = 0.2 * torch.randn(1, 15 * 8000, generator=torch.Generator().manual_seed(0))
    whole = control(wave, 8000)
    part = control(wave[:, 8 * 8000 :], 8000)
    torch.testing.assert_close(whole[:, 500:700], part[:, 100:300], atol=1e-4, rtol=1e-4)


def test_settings_tell_curves_apart() -> None:
    told = [
        repr(c.settings()) for c in (*ALL, Melody(low=130), Melody(rate=25), Dynamics(smooth=0))
    ]
    assert len(set(told[:1] + told[3:5])) == 3
    assert told[1] != told[5]


@pytest.mark.parametrize(("name", "options"), [
    ("melody.control.rate=0", {"rate": 0}), ("melody.control.low=-1", {"low": -1}),
    ("melody.control.window=9", {"window": 9}),
])  # fmt: skip
def test_what_cannot_be_is_refused(name: str, options: dict) -> None:
    with pytest.raises(UserError, match=rf"^conditioner\.{name} must be"):
        Melody(**options)


def test_dynamics_smooth_is_refused() -> None:
    with pytest.raises(UserError, match=r"^conditioner\.dynamics\.control\.smooth=-1 must be"):
        Dynamics(smooth=-1)


@pytest.mark.parametrize("name", ["melody", "dynamics", "rhythm"])
def test_the_yaml_is_the_control_with_its_defaults(name: str) -> None:
    part = instantiate(OmegaConf.load(CONF / f"{name}.yaml")[name])
    assert part.control == {c.name: c for c in ALL}[name]
    assert list(part.sizes) == [name]


# ---- melody ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_every_note_from_middle_c_is_its_pitch_class(rate: int) -> None:
    for pitch in range(60, 96):
        found = Melody()(sine(hz(pitch), 0.5, rate), rate)
        assert (found.argmax(0) == pitch % 12).all(), pitch
        assert (found.sum(0) == 1).all()


def test_a_tune_above_a_louder_bass() -> None:
    tune = torch.cat([sine(hz(p), 0.5) for p in (72, 76, 79)], 1)
    bass = sine(hz(41), 1.5, level=0.6)  # an F two octaves below: -25 dB after the high-pass
    found = Melody()(tune + bass, 22050).argmax(0)
    for number, wanted in enumerate((0, 4, 7)):
        assert (found[25 * number + 5 : 25 * number + 20] == wanted).all()


def test_the_high_pass_is_butterworth_s() -> None:
    coefficients = butter(2, 261.6, "highpass", fs=22050)
    response = freqz(*coefficients, worN=np.linspace(0, np.pi, 513))[1]
    np.testing.assert_allclose(high_pass(22050, 1024, 261.6), np.abs(response) ** 2, atol=1e-6)


# ---- dynamics --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("n", "window"),
    [(300, 51), (100, 51), (80, 51), (51, 51), (40, 51), (30, 51), (10, 3), (5, 3), (4, 5), (2, 9)],
)
def test_the_smoothing_is_scipy_s(n: int, window: int, dtype: torch.dtype) -> None:
    values = torch.randn(3, n, dtype=dtype, generator=torch.Generator().manual_seed(0))
    fits = min(window, n)
    expected = savgol_filter(values.double().numpy(), fits, 2) if fits > 3 else values
    tolerance = 1e-9 if dtype == torch.float64 else 2e-5
    np.testing.assert_allclose(savitzky_golay(values, window), expected, atol=tolerance)
    torch.testing.assert_close(savitzky_golay(values[0], window), savitzky_golay(values, window)[0])


def test_a_sine_is_as_loud_as_it_is() -> None:
    found = Dynamics()(sine(440, 2, level=0.1), 22050)
    torch.testing.assert_close(
        found, torch.full((1, 100), -20 - 10 * math.log10(2)), atol=0.1, rtol=0
    )


def test_a_line_in_decibels_is_followed() -> None:
    """Noise that grows by 10 dB a second; quadratic smoothing leaves a line as it is."""
    rate = 16000
    time = torch.arange(3 * rate) / rate
    noise = torch.randn(1, 3 * rate, generator=torch.Generator().manual_seed(0))
    found = Dynamics()(noise * 10 ** ((time * 10 - 50) / 20), rate)[0]
    wanted = (torch.arange(150) + 0.5) / 50 * 10 - 50
    assert (found - wanted).abs().max() < 0.8


# ---- rhythm ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_onsets_are_where_they_are(rate: int) -> None:
    wave = torch.zeros(1, 2 * rate)
    onsets = (0.31, 0.77, 1.21, 1.69)
    for onset in onsets:
        first = round(onset * rate)
        time = torch.arange(rate // 5) / rate
        wave[0, first : first + rate // 5] += 0.5 * torch.exp(-15 * time) * torch.sin(2764.6 * time)
    curve = Rhythm()(wave, rate)[0]
    far = torch.ones_like(curve, dtype=torch.bool)
    for onset in onsets:
        near = slice(int(onset * 50) - 1, int(onset * 50) + 2)
        assert curve[near].max() > 0.5 * curve.max()
        far[near] = False
    assert curve[far].max() < 0.1 * curve.max()
    assert (curve >= 0).all()
    assert curve.median() < 0.01 * curve.max()


def test_a_level_that_falls_is_no_onset() -> None:
    wave = sine(440, 2) * torch.linspace(1, 0.01, 44100)
    assert Rhythm()(wave, 22050)[0, 2:].max() < 0.02


# ---- scores ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_scores_have_the_melody_of_their_notes(tmp_path: Path) -> None:
    """30 clips gave 0.85, and 0.91 within 50 ms; librosa's chroma_cqt so 0.86 and 0.94."""
    pytest.importorskip("tinysoundfont")
    from glissando.datasets.scores import Scores

    source = Scores(clips=4, seconds=6.0, cache=str(tmp_path), workers=1)
    near = total = 0
    strength = []
    for job in [job for jobs in source.jobs().values() for job in jobs]:
        clip = source.make(job)
        wave = torch.from_numpy(clip.wave)
        melody = Melody()(wave, clip.sample_rate)
        for column, time in zip(melody.T, (np.arange(melody.shape[1]) + 0.5) / 50, strict=True):
            sounding = {
                p % 12 for o, d, p, _ in clip.attributes["notes"] if o - 0.05 <= time < o + d + 0.05
            }
            if sounding and column.any():
                total += 1
                near += int(column.argmax()) in sounding
        rhythm = Rhythm()(wave, clip.sample_rate)[0]
        played = sorted({int(o * 50) for o, *_ in clip.attributes["notes"] if 0.1 < o < 5.9})
        at = [float(rhythm[k - 1 : k + 3].max()) for k in played]
        strength.append(np.mean(at) / float(rhythm.mean()))
    assert total > 800
    assert near / total > 0.8
    assert min(strength) > 2
