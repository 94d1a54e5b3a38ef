"""What the targets measure, against closed forms, scipy and sounds whose answer is known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import soundfile
import torch
from torch import Tensor

from glissando.ditto.base import Aim, Sound, Target
from glissando.ditto.inpaint import Inpaint
from glissando.ditto.intensity import Intensity, Loudness, interpolated
from glissando.ditto.melody import NAMES, Melody, Tune
from glissando.ditto.points import held, points
from glissando.ditto.stft import LogMel, power
from glissando.ditto.structure import Similarity, Structure, dct
from glissando.errors import UserError

RATE = 8000


def sound(seconds: float = 2.0, rate: int = RATE, channels: int = 1) -> Sound:
    return Sound(rate, channels, round(seconds * rate))


def sine(hz: float, seconds: float = 2.0, amplitude: float = 0.5, rate: int = RATE) -> Tensor:
    """(L,)"""
    return amplitude * torch.sin(2 * math.pi * hz * torch.arange(round(seconds * rate)) / rate)


def pitch(semitones: int) -> float:
    """Hz, semitones above middle C."""
    return 440 * 2 ** ((semitones - 9) / 12)


# ---- intensity -------------------------------------------------------------------------------


def test_the_loudness_of_sines() -> None:
    """10 log10(a² / 2), as the mean power of the channels; 0 dB would be a square wave at 1."""
    whole = sound(2.005, channels=2)  # the last block is not whole
    waves = torch.stack([
        torch.stack([sine(500, 2.005, 0.5), sine(500, 2.005, 0.5)]),
        torch.stack([sine(500, 2.005, 0.1), torch.zeros(16040)]),
    ])  # fmt: skip
    decibels = Loudness(whole, 0.2).decibels(waves)
    assert decibels.shape == (2, 101)
    powers = [0.5**2 / 2, 0.1**2 / 4]
    for row, value in zip(decibels, powers, strict=True):
        np.testing.assert_allclose(row, 10 * math.log10(value), atol=0.05)
    silence = Loudness(whole, 0.2).decibels(torch.zeros(1, 2, 16040))
    np.testing.assert_allclose(silence, -80, atol=1e-3)


def test_a_curve_is_straight_lines_and_level_beyond() -> None:
    times = torch.linspace(0, 5, 41, dtype=torch.float64)
    at, values = [1.0, 2.5, 4.0], [-30.0, -10.0, -60.0]
    wanted = np.interp(times, at, values)
    found = interpolated(times, torch.tensor(at).double(), torch.tensor(values).double())
    np.testing.assert_allclose(found, wanted)
    one = interpolated(times, torch.tensor([1.0]), torch.tensor([-30.0]))
    assert one.tolist() == [-30.0] * 41


def test_the_intensity_loss_is_the_mean_square_in_decibels() -> None:
    aim = Intensity(curve="0:-20").aim(sound())
    wave = sine(500, amplitude=math.sqrt(2) * 10 ** (-26 / 20))
    assert float(aim(wave[None, None])[0]) == pytest.approx(36, rel=0.01)
    (told,) = aim.told(wave[None, None])
    assert told["wanted"] == [-20.0] * 100
    assert told["reached"] == pytest.approx([-26.0] * 100, abs=0.1)
    assert told["every"] == 0.02


def test_ten_minutes_of_loudness() -> None:
    """30,000 blocks: the smoothing has no matrix of their square."""
    aim = Intensity(curve="0:-40 300:-10 600:-40").aim(sound(600))
    assert sum(buffer.numel() for buffer in aim.buffers()) < 100_000
    assert aim(torch.zeros(1, 1, 600 * RATE)).isfinite().all()


# ---- spectra ---------------------------------------------------------------------------------


def test_a_sine_of_amplitude_1_has_power_1_and_0_decibels() -> None:
    wave = sine(1000, amplitude=1.0)[None, None]  # the middle of bin 64
    spectrum = power(wave, 512, 128)[0, 0, :, 4:-4]
    assert spectrum.argmax(0).eq(64).all()
    np.testing.assert_allclose(spectrum[64], 1, rtol=1e-4)
    mel = LogMel(RATE, 40)
    loudest = mel(wave)[0, 0, :, 4:-4].amax(0)
    assert (loudest - loudest.mean()).abs().max() < 0.01
    assert -3 < loudest.mean() < 3  # between two filters' peaks, with its neighbouring bins
    np.testing.assert_allclose(mel(torch.zeros(1, 1, 4000)), -80, atol=1e-4)


def test_the_cosines_are_scipy_s() -> None:
    np.testing.assert_allclose(dct(40), scipy.fft.dct(np.eye(40), norm="ortho", axis=0), atol=1e-6)


# ---- melody ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2)])
def test_every_pitch_class_is_heard(rate: int, channels: int) -> None:
    for semitones in range(12, 24):
        wave = sine(pitch(semitones), 1.0, rate=rate).expand(1, channels, -1)
        (heard,) = Tune(sound(1.0, rate, channels), 261.6).strongest(wave)
        assert heard[2:-2].eq(semitones % 12).all(), NAMES[semitones % 12]


def test_the_melody_loss_is_a_likelihood() -> None:
    aim = Melody(notes="0:A3 1:E 1.5:-").aim(sound())
    right = torch.cat([sine(440, 1.0), sine(pitch(16), 1.0)])[None, None]
    wrong = torch.cat([sine(pitch(16), 1.0), sine(440, 1.0)])[None, None]
    noise = torch.randn(1, 1, 2 * RATE, generator=torch.Generator().manual_seed(0))
    losses = [float(aim(wave)[0]) for wave in (right, noise, wrong)]
    assert losses[0] < 0.1 < 2 < losses[1] < 4 < losses[2]
    assert aim.told(right)[0]["right"] > 0.95
    assert aim.told(wrong)[0]["right"] < 0.05
    # Equal shares, as in silence: log 12.
    silence = aim(torch.zeros(1, 1, 2 * RATE))
    assert float(silence[0]) == pytest.approx(math.log(12), abs=1e-4)
    rest = right.clone()
    rest[..., int(1.6 * RATE) :] = 0  # where nothing is wanted
    assert float(aim(rest)[0]) == pytest.approx(losses[0], abs=0.01)


# ---- structure and likeness --------------------------------------------------------------------


def timbres(*letters: str) -> Tensor:
    """Half a second of each: A a low buzz, B noise, (1, 1, L)."""
    chance = torch.Generator().manual_seed(0)
    parts = {
        "A": lambda: sum(sine(110 * k, 0.5, 0.1) for k in range(1, 6)),
        "B": lambda: 0.1 * torch.randn(RATE // 2, generator=chance),
    }
    return torch.cat([torch.as_tensor(parts[letter]()) for letter in letters])[None, None]


def test_the_structure_loss_knows_the_form() -> None:
    aim = Structure(form="0:A 1:B 1.5:A", every=0.25).aim(sound())
    assert isinstance(aim, Similarity)
    assert aim.wanted.shape == (8, 8)
    assert aim.wanted[0].tolist() == [1, 1, 1, 1, 0, 0, 1, 1]
    right, wrong = (float(aim(timbres(*form))[0]) for form in ("AABA", "ABBB"))
    assert right < 0.5 * wrong
    cosines = aim.matrix(timbres(*"AABA"))[0]
    torch.testing.assert_close(cosines.diagonal(), torch.ones(8))
    torch.testing.assert_close(cosines, cosines.T)


def test_a_likeness_is_asked_for_in_its_spans_alone(tmp_path: Path) -> None:
    wave = timbres(*"ABAB")
    soundfile.write(tmp_path / "in.wav", wave[0].T.numpy(), RATE, subtype="FLOAT")
    target = Inpaint(reference=str(tmp_path / "in.wav"), keep="0-0.5,1.5-2")
    aim = target.aim(sound())
    assert float(aim(wave)[0]) == pytest.approx(0, abs=1e-6)
    other = wave.clone()
    other[..., int(0.6 * RATE) : int(1.4 * RATE)] = 0
    assert float(aim(other)[0]) == pytest.approx(0, abs=1e-3)
    other[..., : RATE // 4] = 0
    assert float(aim(other)[0]) > 100


# ---- all -------------------------------------------------------------------------------------

TARGETS = [
    Intensity(curve="0:-30 1:-10"),
    Melody(notes="0:C 1:G"),
    Structure(form="0:A 1:B"),
]


@pytest.fixture(params=[*TARGETS, None], ids=["intensity", "melody", "structure", "inpaint"])
def aim(request: pytest.FixtureRequest, tmp_path: Path) -> Aim:
    if request.param is not None:
        return request.param.aim(sound())
    soundfile.write(tmp_path / "in.wav", timbres(*"ABAB")[0].T.numpy(), RATE)
    return Inpaint(reference=str(tmp_path / "in.wav"), keep="0-2").aim(sound())


@pytest.mark.parametrize("amplitude", [0.0, 1e-6, 1e-3, 0.3, 30.0])
def test_gradients_are_finite_and_lead_out_of_what_is_nearly_silent(
    aim: Aim, amplitude: float
) -> None:
    noise = torch.randn(2, 1, 2 * RATE, generator=torch.Generator().manual_seed(0))
    wave = (amplitude * noise.double()).requires_grad_()  # to see the loss move by 1e-6 of itself
    loss = aim(wave)
    assert loss.shape == (2,)
    (gradient,) = torch.autograd.grad(loss.sum(), wave)
    assert gradient.isfinite().all()
    if amplitude > 0:
        assert all(row.any() for row in gradient)
        step = 1e-2 * wave.detach().norm() / gradient.norm()
        assert (aim(wave.detach() - step * gradient) < loss.detach()).all()


def test_a_recording_is_the_target(tmp_path: Path) -> None:
    """48 kHz, stereo, shorter than the clip: followed as far as it goes."""
    tune = torch.cat([sine(pitch(k), 0.5, 0.3, 48000) for k in (12, 16)])
    soundfile.write(tmp_path / "in.wav", tune[:, None].repeat(1, 2).numpy(), 48000)
    known = {"reference": str(tmp_path / "in.wav")}
    clip = torch.cat([sine(pitch(k), 0.5, 0.3) for k in (12, 16, 19, 12)])[None, None]
    other = torch.cat([sine(pitch(k), 0.5, 0.02) for k in (17, 17, 16, 12)])[None, None]
    targets: list[Target] = [
        Intensity(**known, smooth=0.1), Melody(**known), Structure(**known, every=0.25),
        Inpaint(**known, keep="0-0.9"),
    ]  # fmt: skip
    for target in targets:
        aim = target.aim(sound())
        assert float(aim(clip)[0]) < 0.2 * float(aim(other)[0]), type(target).__name__


@pytest.mark.parametrize(("make", "line"), [
    (lambda: Intensity(), "give ditto.curve or ditto.reference, one of the two"),
    (lambda: Intensity(curve="0:-3", reference="a.wav"), "give ditto.curve or ditto.reference"),
    (lambda: Intensity(curve=""), "ditto.curve: give each second one value"),
    (lambda: Intensity(curve="0:-3 0:-5"), "ditto.curve: give each second one value"),
    (lambda: Intensity(curve="loud"), "ditto.curve: 'loud' is not seconds:value"),
    (lambda: Intensity(curve="-1:-3"), "ditto.curve: '-1:-3' is not seconds:value"),
    (lambda: Intensity(curve="0:loud"), "ditto.curve is in dB below full scale"),
    (lambda: Intensity(curve="0:6"), "ditto.curve is in dB below full scale"),
    (lambda: Intensity(curve="0:-3", smooth=-1), "ditto.smooth must be seconds from 0, not -1"),
    (lambda: Intensity(curve="0:-3", iterations=0), "ditto.iterations must be a number from 1"),
    (lambda: Intensity(curve="0:-3", iterations=2.5), "ditto.iterations must be a number from 1"),
    (lambda: Intensity(curve="0:-3", steps=0), "ditto.steps must be null or a number from 1"),
    (lambda: Intensity(curve="0:-3", lr=0), "ditto.lr must be above 0 and finite, not 0"),
    (lambda: Intensity(curve="0:-3", lr="fast"), "ditto.lr must be above 0 and finite, not fast"),
    (lambda: Intensity(curve="0:-3", tolerance=-1), "ditto.tolerance must be at least 0, not -1"),
    (lambda: Melody(), "give ditto.notes or ditto.reference, one of the two"),
    (lambda: Melody(notes="0:H"), "ditto.notes: 'H' is no note"),
    (lambda: Melody(notes="0:C", low=0), "ditto.low must be Hz above 0 and below 2093, not 0"),
    (lambda: Melody(notes="0:- 9:C").aim(sound()), "the tune is silent within the clip"),
    (lambda: Structure(), "give ditto.form or ditto.reference, one of the two"),
    (lambda: Structure(form="A B A"), "ditto.form: 'A' is not seconds:value"),
    (lambda: Structure(form="0:A", every=0), "ditto.every must be above 0 and finite, not 0"),
    (lambda: Structure(form="0:A", every=9.0).aim(sound()), "structure needs two moments"),
    (lambda: Inpaint(reference=None, keep="0-1"), "this target needs ditto.reference"),
    (lambda: Inpaint(reference="a.wav", keep="1"), "ditto.keep=1 is no span from-to in seconds"),
    (lambda: Inpaint(reference="a.wav", keep="0-1").aim(sound()), "a.wav: no such audio file"),
])  # fmt: skip
def test_a_wrong_setting_is_one_line(make, line: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("keep", "line"), [
    ("0-3", "ditto.keep: 0-3 is not inside ditto.reference and the clip, which share 1 s"),
    ("0.5-0.5", "ditto.keep: 0.5-0.5 is empty"),
    ("0.5-0.501", "ditto.keep keeps less than one frame"),
])  # fmt: skip
def test_spans_that_do_not_fit(tmp_path: Path, keep: str, line: str) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros(RATE), RATE)
    with pytest.raises(UserError, match=line):
        Inpaint(reference=str(tmp_path / "in.wav"), keep=keep).aim(sound())


def test_points_are_read_in_any_order_and_hold_until_the_next() -> None:
    marks = points("2:B, 0.5:A 4:C", "ditto.form", "")
    assert marks == [(0.5, "A"), (2.0, "B"), (4.0, "C")]
    assert held(marks, [0.0, 0.5, 1.9, 2.0, 9.0]) == [None, "A", "A", "B", "C"]
