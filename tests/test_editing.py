"""Which latent frames an edit makes, and that a splice keeps, fades and never clicks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from glissando.editing import FADE, Edit, edit
from glissando.errors import UserError
from glissando.networks.oobleck import OobleckAutoencoder
from glissando.networks.spectral import SpectralAutoencoder

RATE, HOP = 8000, 64
FADED = round(FADE * RATE)


def sine(pitch: float, length: int = RATE, channels: int = 1) -> Tensor:
    return torch.sin(2 * math.pi * pitch / RATE * torch.arange(length)).expand(channels, -1)


def slope(wave: Tensor) -> float:
    return wave.diff(dim=-1).abs().max().item()


# ---- frames ----------------------------------------------------------------------------------

SPANS = [(0.0, 0.2), (0.25, 0.5), (0.3, 0.3009), (0.9, 1.0), (0.0, 1.0)]


@pytest.mark.parametrize("span", SPANS)
def test_no_kept_frame_sounds_where_the_model_is_heard(span: tuple[float, float]) -> None:
    """By a lapped transform, whose frames end exactly: replacing all kept frames changes nothing.

    And no frame is made in vain: at most one hop more on either side would be.
    """
    torch.manual_seed(0)
    codec = SpectralAutoencoder(8, 1, HOP, 8, 1, 8, 1)
    total = codec.frames(RATE)
    change = edit(torch.zeros(1, RATE), [span], RATE, RATE)
    make = change.frames(HOP, total)
    z = torch.randn(2, 1, 8, total)
    z = torch.stack([z[0], torch.where(make, z[0], z[1])])
    one, two = (codec.decode(each, RATE) for each in z)
    first, last = change.spans[0]
    heard = slice(max(first - FADED, 0), last + FADED)
    assert torch.equal(one[..., heard], two[..., heard])
    assert make.sum() <= (last - first + 2 * FADED) / HOP + 3
    if not make.all():
        assert not torch.equal(one, two)


def test_frames_of_a_strided_convolution() -> None:
    """The middle of what a kept frame of Oobleck changes lies outside span and fades."""
    torch.manual_seed(0)
    codec = OobleckAutoencoder(4, 1, 4, (1, 2), (4, 4)).double()
    length = 2000
    change = edit(torch.zeros(1, length), [(0.08, 0.14)], length, RATE)
    total = codec.frames(length)
    make = change.frames(codec.hop, total)
    first, last = change.spans[0]
    z = torch.zeros(total, 4, total, dtype=torch.float64)
    z[torch.arange(total), :, torch.arange(total)] = 1  # one frame a row
    with torch.no_grad():
        silence = codec.decode(torch.zeros_like(z[:1]), length)
        changed = (codec.decode(z, length) - silence)[:, 0].abs() > 1e-13
    whole = 0
    for k, samples in enumerate(changed):
        reach = samples.nonzero()
        if reach.min() > 0 and reach.max() < length - 1:  # not cut off by an end
            middle = (reach.min() + reach.max() + 1) / 2
            assert make[k] or not first - FADED < middle < last + FADED
            assert k * codec.hop <= middle <= (k + 1) * codec.hop
            whole += 1
    assert whole > make.sum()


def test_beyond_the_recording_nothing_is_known() -> None:
    make = edit(torch.zeros(1, 1000), [(0.0, 0.01)], 1000, RATE).frames(HOP, 30)
    assert make[1000 // HOP + 1 :].all()
    assert not make[6:16].any()


# ---- splice ----------------------------------------------------------------------------------


def test_outside_the_fades_it_is_the_recording_and_inside_the_spans_what_was_made() -> None:
    original, made = torch.rand(2, RATE) - 0.5, torch.rand(3, 2, RATE) - 0.5
    change = edit(original, [(0.2, 0.4), (0.7, 0.8)], RATE, RATE)
    out = change.splice(made)
    assert out.shape == made.shape
    cursor = 0
    for first, last in [*change.spans, (RATE + FADED, RATE + FADED)]:
        kept = slice(cursor, first - FADED)
        assert torch.equal(out[..., kept], original[:, kept].expand(3, -1, -1))
        assert torch.equal(out[..., first:last], made[..., first:last])
        cursor = last + FADED
    first, last = change.spans[0]
    share = torch.arange(1, FADED + 1) / FADED  # of the recording, away from the span
    for zone, weight in (
        (slice(first - FADED, first), share.flip(0)),
        (slice(last, last + FADED), share),
    ):
        expected = weight * original[:, zone] + (1 - weight) * made[..., zone]
        torch.testing.assert_close(out[..., zone], expected)


@pytest.mark.parametrize("level", [1.0, 0.05])
@pytest.mark.parametrize("pitch", [440.0, 447.0, 95.0])
def test_a_seam_is_no_steeper_than_what_it_joins(pitch: float, level: float) -> None:
    """Another pitch, another phase, another level: no click."""
    original, made = 0.8 * sine(440), -0.8 * level * sine(pitch)[None]
    change = edit(original, [(0.2006, 0.61), (0.7, 0.703), (0.75, 1.0)], RATE, RATE)
    out = change.splice(made)
    own = max(slope(original), slope(made))
    # Linear weights: a convex sum of the two slopes, and the difference over the fade's length.
    limit = own + (original - made).abs().max().item() / FADED
    assert slope(out) <= limit + 1e-6
    assert limit < 1.06 * own
    assert out.abs().max() <= 0.8
    if pitch == 440:  # where a cut, from a peak to its opposite, makes one
        first = change.spans[0][0]
        assert (original[0, first - 1] - made[0, 0, first]).abs() > limit


def test_fades_of_near_spans_meet_without_a_step() -> None:
    """Less than two fades apart the recording never returns whole, and comes and goes smoothly."""
    change = edit(torch.ones(1, RATE), [(0.2, 0.4), (0.41, 0.5)], RATE, RATE)
    out = change.splice(torch.zeros(1, 1, RATE))[0, 0]
    between = out[round(0.4 * RATE) : round(0.41 * RATE)]
    assert 0 < between.max() < 1
    assert out.diff().abs().max() <= 1 / FADED + 1e-6


def test_what_is_too_loud_is_scaled_alone() -> None:
    """A whole clip scaled to fit a file would keep nothing; what is not used does not count."""
    original, made = 0.99 * sine(440), 3 * sine(95)[None]
    change = edit(original, [(0.2, 0.4)], RATE, RATE)
    out = change.splice(made)
    assert out.abs().max() <= 1
    first, last = change.spans[0]
    assert torch.equal(out[0, :, last + FADED :], original[:, last + FADED :])
    torch.testing.assert_close(out[..., first:last], made[..., first:last] / 3, atol=1e-2, rtol=0)
    made[..., first - FADED : last + FADED] /= 3
    assert torch.equal(change.splice(made)[..., first:last], made[..., first:last])


# ---- spans -----------------------------------------------------------------------------------


def test_spans_are_ordered_and_joined_where_they_meet() -> None:
    change = edit(torch.zeros(1, RATE), [(0.5, 0.6), (0.1, 0.2), (0.2, 0.3)], RATE, RATE)
    assert change.spans == ((800, 2400), (4000, 4800))
    assert change.fade == FADED


def test_what_lies_beyond_the_sound_is_made() -> None:
    wave = torch.rand(2, 800)
    change = edit(wave, [], 2000, RATE)
    assert change.spans == ((800, 2000),)
    assert torch.equal(change.original[:, :800], wave)
    assert edit(wave, [(0.05, 0.15)], 2000, RATE).spans == ((400, 2000),)
    assert edit(wave, [(0.0, 0.05)], 600, RATE).original.shape == (2, 600)


@pytest.mark.parametrize(("make", "line"), [
    ([(0.5, 1.2)], r"inpaint=0.5-1.2 is not inside the clip, 1 s long"),
    ([(2.0, 3.0)], r"inpaint=2-3 is not inside the clip, 1 s long"),
    ([(0.5, 0.4)], r"inpaint=0.5-0.4 is empty: it must end after it begins"),
    ([(0.5, 0.5)], r"inpaint=0.5-0.5 is empty"),
    ([(0.5, 0.50001)], r"inpaint=0.5-0.50001 is empty"),  # no sample
    ([(-1.0, 0.5)], r"inpaint=-1-0.5 is not a span of seconds from 0 on"),
    ([(0.1, math.nan)], r"inpaint=0.1-nan is not a span"),
    ([(0.1, math.inf)], r"inpaint=0.1-inf is not a span"),
    ([(0.4, 0.7), (0.1, 0.5)], r"inpaint=0.1-0.5 and inpaint=0.4-0.7 overlap: join them"),
    ([], r"extend= has nothing to add: the sound is 1 s long and seconds=, .*, is 1$"),
])  # fmt: skip
def test_spans_that_do_not_fit_are_one_line(make: list[tuple[float, float]], line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        edit(torch.zeros(1, RATE), make, RATE, RATE)
    assert "\n" not in str(caught.value)


def test_the_length_that_is_told_may_be_typed() -> None:
    length = 7999  # 0.999875 s, which rounds to 1.000
    with pytest.raises(UserError, match=r"0\.999 s long"):
        edit(torch.zeros(1, length), [(0.5, 1.0)], length, RATE)
    assert edit(torch.zeros(1, length), [(0.5, 0.999)], length, RATE).spans == ((4000, 7992),)


def test_silence_beyond_the_sound_is_nothing_to_start_from() -> None:
    with pytest.raises(UserError, match=r"strength=0\.3 starts from the sound, .* ends at 0\.1 s"):
        edit(torch.zeros(1, 800), [], 2000, RATE, strength=0.3)
    with pytest.raises(ValueError, match="needs init="):
        edit(None, [(0.1, 0.2)], 2000, RATE)


def test_an_edit_is_of_every_channel_and_clip() -> None:
    change = Edit(torch.zeros(2, 100), ((40, 60),), 10)
    assert change.splice(torch.ones(4, 2, 100))[..., 40:60].all()
