"""The embedded source end to end: its splits, its jobs, its clips."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest

from glissando.datasets.base import Source
from glissando.datasets.scores import Scores
from glissando.datasets.scores.catalogue import _abc_melody, _phrases, abc_text, catalogue
from glissando.datasets.scores.instruments import INSTRUMENTS
from glissando.datasets.scores.render import LOUDNESS, PEAK, brightness, loudness
from glissando.datasets.scores.source import BRIGHT, WARM
from glissando.errors import UserError

for package in ("music21", "pretty_midi", "tinysoundfont"):
    pytest.importorskip(package)

CLIPS = 16


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("scores"))


@pytest.fixture(scope="module")
def source(cache):
    return Scores(clips=CLIPS, seconds=3.0, cache=cache, workers=1)


@pytest.fixture(scope="module")
def jobs(source):
    return source.jobs()


@pytest.fixture(scope="module")
def clips(source, jobs):
    return [source.make(job) for split in jobs.values() for job in split]


def hertz(midi):
    return 440 * 2 ** ((midi - 69) / 12)


def test_it_is_a_source(source):
    assert isinstance(source, Source)
    assert pickle.loads(pickle.dumps(source)).settings() == source.settings()


def test_jobs_have_the_asked_counts_and_unique_keys(jobs):
    assert sum(map(len, jobs.values())) == CLIPS
    assert all(len(jobs[split]) >= 1 for split in ("train", "valid", "test"))
    keys = [job.key for split in jobs.values() for job in split]
    assert len(set(keys)) == CLIPS
    assert not any("." in key for key in keys)  # WebDataset ends a key at its first dot


def test_jobs_are_the_same_again_and_others_with_another_seed(cache, jobs):
    assert Scores(clips=CLIPS, seconds=3.0, cache=cache, workers=1).jobs() == jobs
    other = Scores(clips=CLIPS, seconds=3.0, cache=cache, workers=1, seed=1).jobs()
    tunes = {job.entry for job in jobs["train"]}
    assert {job.entry for job in other["train"]} != tunes


def test_no_tune_and_no_group_is_in_two_splits():
    dealt = Scores(clips=10)._dealt()
    groups = {split: {entry.group for entry in entries} for split, entries in dealt.items()}
    assert sum(map(len, dealt.values())) == len(catalogue())
    assert not groups["train"] & groups["valid"]
    assert not groups["train"] & groups["test"]
    assert not groups["valid"] & groups["test"]
    shares = {split: len(entries) / len(catalogue()) for split, entries in dealt.items()}
    assert shares == pytest.approx({"train": 0.9, "valid": 0.05, "test": 0.05}, abs=0.015)


def test_no_phrase_of_a_test_tune_is_in_the_training_tunes():
    """Sixteen steps in a row, other than scales and trills."""
    phrases = {
        split: {
            phrase
            for entry in entries
            if entry.collection != "bach"
            for phrase in _phrases(_abc_melody(abc_text(entry.id)), 16)
        }
        for split, entries in Scores(clips=10)._dealt().items()
    }
    assert len(phrases["test"]) > 5000
    assert not phrases["test"] & phrases["train"]
    assert not phrases["valid"] & phrases["train"]


def test_a_split_does_not_hang_on_the_seed():
    one, two = (Scores(clips=10, seed=seed)._dealt() for seed in (0, 7))
    assert {e.id for e in one["test"]} == {e.id for e in two["test"]}
    assert [e.id for e in one["test"]] != [e.id for e in two["test"]]


def test_the_same_job_gives_the_same_bytes_here_and_in_another_process(source, jobs, clips):
    job = jobs["train"][0]
    again = source.make(job)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        elsewhere = pool.submit(source.make, job).result()
    for other in (again, elsewhere):
        assert other.wave.tobytes() == clips[0].wave.tobytes()
        assert other.attributes == clips[0].attributes


def test_a_clip_depends_on_no_clip_before_it(source, jobs, clips):
    backwards = [source.make(job) for job in reversed(jobs["train"][:4])][::-1]
    for clip, other in zip(clips, backwards, strict=False):
        assert clip.wave.tobytes() == other.wave.tobytes()


def test_waves_are_sound_not_silence_clipping_or_offset(clips):
    for clip in clips:
        wave = clip.wave
        assert wave.dtype == np.float32
        assert wave.shape == (1, 3 * 22050)
        assert np.isfinite(wave).all()
        assert 0.05 < np.abs(wave).max() <= PEAK + 1e-3
        assert abs(wave.mean()) < 1e-4
        # At the common loudness, unless the peak did not fit (the fades cost a little).
        level = loudness(wave.astype(np.float64), clip.sample_rate)
        assert level < LOUDNESS + 0.1
        assert level > LOUDNESS - 1.5 or np.abs(wave).max() > PEAK - 0.02


def test_ends_do_not_click(clips):
    for clip in clips:
        wave = clip.wave[0]
        assert np.abs(wave[[0, -1]]).max() < 1e-4
        assert np.abs(np.diff(wave[-50:])).max() < 0.005


def test_notes_fit_the_instrument_and_the_clip(clips):
    for clip in clips:
        facts = clip.attributes
        instrument = INSTRUMENTS[facts["instrument"]]
        assert facts["program"] == instrument.program
        notes = np.array(facts["notes"])
        assert len(notes) >= 4
        assert (notes[:, 0] >= 0).all()
        assert (notes[:, 0] + notes[:, 1] <= 3.0 + 1e-3).all()
        assert instrument.low <= notes[:, 2].min()
        assert notes[:, 2].max() <= instrument.high
        assert ((notes[:, 3] > 60) & (notes[:, 3] < 110)).all()


def test_the_notes_in_the_attributes_are_the_notes_that_sound(clips):
    """At the middle of a melody's longest note, its pitch class stands out of the spectrum."""
    checked = 0
    for clip in clips:
        facts = clip.attributes
        onset, duration, midi, _ = max(facts["notes"], key=lambda n: n[1])
        if facts["voices"] > 1 or duration < 0.3:
            continue
        middle = round((onset + duration / 2) * clip.sample_rate)
        part = clip.wave[0, max(0, middle - 2048) : middle + 2048]
        power = np.abs(np.fft.rfft(part * np.hanning(len(part)), 16384)) ** 2
        f = np.fft.rfftfreq(16384, 1 / clip.sample_rate)

        def energy(pitch, power=power, f=f):
            partials = [hertz(pitch) * h for h in (1, 2, 3, 4)]
            return sum(power[np.abs(f - p) < 0.02 * p].sum() for p in partials)

        found = max(range(midi - 5, midi + 6), key=energy)
        assert found == midi, (clip.key, facts["instrument"])
        checked += 1
    assert checked >= 5


def test_beats_are_even_and_as_fast_as_the_tempo(clips):
    for clip in clips:
        facts = clip.attributes
        gaps = np.diff(facts["beats"])
        assert len(gaps) >= 1
        # Where a tune repeats a section, an incomplete bar may make one gap another.
        assert np.median(gaps) == pytest.approx(60 / facts["bpm"], abs=2e-3)


def test_timbre_is_what_the_spectrum_says(clips):
    for clip in clips:
        centroid = brightness(clip.wave, clip.sample_rate)
        assert centroid == pytest.approx(clip.attributes["brightness_hz"], abs=0.1)
        expected = "warm" if centroid < WARM else "bright" if centroid > BRIGHT else None
        assert clip.attributes["timbre"] == expected


def test_stereo_at_44_1_khz(cache, jobs, clips):
    stereo = Scores(clips=CLIPS, seconds=3.0, sample_rate=44100, channels=2, cache=cache, workers=1)
    assert stereo.jobs() == jobs  # rate and channels change the sound, not the music
    job = jobs["train"][0]
    clip = stereo.make(job)
    assert clip.wave.shape == (2, 3 * 44100)
    assert clip.attributes["notes"] == clips[0].attributes["notes"]
    spectra = [
        np.abs(np.fft.rfft(wave))[: 3 * 5000]  # bins of 1/3 Hz: up to 5 kHz
        for wave in (clip.wave.mean(axis=0), clips[0].wave[0])
    ]
    assert np.corrcoef(np.stack(spectra))[0, 1] > 0.99


def test_a_tune_shorter_than_the_clip_begins_again(cache):
    source = Scores(clips=3, seconds=60.0, cache=cache, workers=1)
    clip = source.make(source.jobs()["train"][0])
    assert clip.wave.shape == (1, 60 * 22050)
    facts = clip.attributes
    assert facts["notes"][-1][0] > 55
    period = facts["piece_seconds"]
    assert period < 60
    onsets = np.array([n[0] for n in facts["notes"]])
    later = onsets[(onsets >= period) & (onsets < 60)]
    assert all(np.abs(onsets + period - t).min() < 2e-3 for t in later)


def test_settings_name_what_changes_the_clips(cache):
    base = Scores(clips=CLIPS, cache=cache).settings()
    assert Scores(clips=CLIPS, cache="elsewhere", workers=3).settings() == base
    changes: tuple[dict[str, Any], ...] = (
        {"seed": 3},
        {"seconds": 4.0},
        {"channels": 2},
        {"sample_rate": 16000},
    )
    for change in changes:
        assert Scores(clips=CLIPS, **change).settings() != base


@pytest.mark.parametrize(
    ("wrong", "flag"),
    [
        ({"clips": 0}, "data.clips"),
        ({"seconds": 0}, "data.seconds"),
        ({"channels": 3}, "data.channels"),
        ({"splits": {"train": 0.5}}, "data.splits"),
        ({"splits": {"training": 1.0}}, "data.splits"),
    ],
)
def test_wrong_settings_are_refused_by_name(wrong, flag):
    with pytest.raises(UserError, match=flag):
        Scores(**wrong)
