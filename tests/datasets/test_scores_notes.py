"""Notes, meter, keys and groups: against scores read by hand and closed forms."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from glissando.datasets.scores import catalogue as catalogue_module
from glissando.datasets.scores import notes as notes_module
from glissando.datasets.scores.catalogue import catalogue
from glissando.datasets.scores.excerpt import Excerpt, meter_of, playable, starts
from glissando.datasets.scores.instruments import INSTRUMENTS, octaves
from glissando.datasets.scores.keys import histogram, krumhansl, supported_key
from glissando.datasets.scores.meter import beat_quarters, beats, tempo_range, tempo_word
from glissando.datasets.scores.notes import Notes, Tune, parse
from glissando.datasets.scores.source import Scores
from glissando.errors import UserError

for package in ("music21", "pretty_midi", "tinysoundfont"):
    pytest.importorskip(package)

CADENCE = (60, 64, 67, 72, 65, 69, 72, 67, 71, 74, 60, 64, 67, 60)  # C: I IV V I


def tune_of(pitches, duration=1.0, meter="4/4", bar=4.0, keys=((0.0, 0, "major"),)):
    notes = [(i * duration, duration, pitch, 0) for i, pitch in enumerate(pitches)]
    length = len(pitches) * duration
    return Tune(notes, list(np.arange(0, length, bar)), [meter], list(keys), length)


def test_an_abc_tune_is_read_as_it_is_printed():
    """O'Neill's 1850, number 1: G3-A (Bcd=e) | f4 (g2dB) | in G minor, 2/4, in sixteenths.

    Its middle repeat splits a bar, of which music21 makes a meter of 1/16.
    """
    tune = parse("oneills1850/0001-0050.abc.0")
    assert tune is not None
    assert [n[2] for n in tune.notes[:9]] == [67, 69, 70, 72, 74, 76, 77, 79, 74]
    assert [n[0] for n in tune.notes[:8]] == [0, 0.75, 1, 1.25, 1.5, 1.75, 2, 3]
    assert tune.meters == ["2/4"]
    assert tune.keys == [(0.0, -2, "minor")]
    assert tune.bars[:3] == [0.0, 2.0, 4.0]


def test_a_chorale_has_four_voices_and_joined_ties():
    tune = parse("bach/bwv269.mxl")
    assert tune is not None
    # Aus meines Herzens Grunde: an upbeat, then g' d'' b' | a' ...
    assert {n[3] for n in tune.notes} == {0, 1, 2, 3}
    for voice in range(4):
        own = [n for n in tune.notes if n[3] == voice]
        assert all(a[0] + a[1] <= b[0] + 1e-4 for a, b in pairwise(own))
    assert [n[2] for n in tune.notes if n[3] == 0][:5] == [67, 67, 74, 71, 69]


def test_music_that_cannot_be_read_is_none(monkeypatch):
    monkeypatch.setattr(notes_module, "abc_text", lambda _: "X:1\nT:Empty\nM:4/4\nK:C\n")
    assert parse("oneills1850/0001-0050.abc.0") is None


def test_notes_are_kept_and_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    ids = [e.id for e in catalogue() if e.collection == "ryansMammoth"][:4]
    notes = Notes(tmp_path)
    notes.fill(ids[:2], workers=1)
    parsed = []
    monkeypatch.setattr(notes_module, "parse", lambda i: parsed.append(i) or parse(i))
    notes.fill(ids, workers=1)
    assert parsed == ids[2:]
    assert notes.load(ids[0]) == parse(ids[0])
    files = [p.name for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) == 4
    assert not any("part" in name for name in files)
    assert json.loads((notes.folder / f"{ids[0]}.json").read_text())["length"] > 0


def test_the_catalogue_names_kinds_that_the_books_name():
    known = {(e.collection, e.title): e for e in catalogue()}
    assert known["oneills1850", "The Enchanted Valley"].kind == "air"
    assert known["oneills1850", "Rocky Road to Dublin"].kind == "slip jig"
    assert known["oneills1850", "Miss Johnson"].kind == "reel"
    assert len(catalogue()) == len({e.id for e in catalogue()}) > 4500
    assert sum(e.kind == "chorale" for e in catalogue()) == 405


def test_settings_of_one_tune_share_their_group():
    groups = {}
    for entry in catalogue():
        groups.setdefault((entry.collection, entry.title.lower().rstrip(".")), entry.group)
    # Twice in O'Neill's, by two transcribers, in other words and keys.
    assert groups["oneills1850", "kerry cobbler, the"] == groups["oneills1850", "the kerry cobbler"]
    assert groups["bach", "bwv 244.15"] == groups["bach", "bwv 244.54"]  # O Haupt voll Blut
    sizes = np.unique([e.group for e in catalogue()], return_counts=True)[1]
    assert sizes.max() <= 30  # shared phrases have not chained the book together


@pytest.mark.parametrize(
    ("kind", "meter", "beat"),
    [
        ("jig", "6/8", 1.5),
        ("slip jig", "9/8", 1.5),
        ("reel", "4/4", 2.0),
        ("reel", "2/2", 2.0),
        ("reel", "2/4", 1.0),
        ("strathspey", "2/2", 1.0),
        ("air", "2/2", 2.0),
        ("chorale", "4/4", 1.0),
        ("chorale", "3/4", 1.0),
    ],
)
def test_the_felt_beat(kind, meter, beat):
    assert beat_quarters(kind, meter) == beat


def test_beats_with_an_upbeat_and_a_repeat_that_splits_a_bar():
    # 6/8: an eighth before the bar, two bars, the second split in 2.5 + 0.5 by a repeat.
    bars, length = [0.0, 0.5, 3.5, 6.0, 6.5], 9.5
    assert beats(bars, length, 3.0, 1.5) == [0.5, 2.0, 3.5, 5.0, 6.5, 8.0]
    assert beats([0.0, 1.0], 5.0, 4.0, 1.0) == [0.0, 1.0, 2.0, 3.0, 4.0]  # a whole beat before


def test_tempi_stay_playable_and_words_agree():
    assert tempo_range("air", 1.0) == (60, 100)
    slow, fast = tempo_range("tune", 8.0)
    assert slow <= fast <= 9.0 / 8 * 60
    assert tempo_word(50, 2) == "slow"
    assert tempo_word(50, 8) is None  # slow beats, fast notes
    assert tempo_word(90, 3) == "moderate"
    assert tempo_word(125, 6) == "fast"
    assert tempo_word(125, 1.5) is None


def test_krumhansl_agrees_with_music21():
    from music21 import note, stream
    from music21.analysis.discrete import KrumhanslKessler

    rng = np.random.default_rng(0)
    for _ in range(10):
        pitches = [int(p) for p in rng.choice([0, 2, 4, 5, 7, 9, 11], 12) + rng.integers(50, 62)]
        theirs = stream.Stream([note.Note(p, quarterLength=1) for p in pitches])
        found = KrumhanslKessler(theirs).getSolution(theirs)
        _, tonic, mode = krumhansl(histogram(pitches, [1.0] * 12))[0]
        assert (tonic, mode) == (found.tonic.pitchClass, found.mode)


def test_a_key_is_claimed_only_with_the_notation_and_the_scale():
    weights = histogram(list(CADENCE), [1.0] * len(CADENCE))
    assert supported_key(weights, 0, "major") == "C major"
    assert supported_key(weights, 0, None) == "C major"
    assert supported_key(weights, 0, "minor") is None
    assert supported_key(weights, 1, "major") is None  # notated in G
    assert supported_key(weights, 0, "mixolydian") is None
    assert supported_key(np.ones(12), 0, "major") is None  # every key and none
    chromatic = weights + np.bincount([1, 3, 6, 8, 10], minlength=12) * 0.5
    assert supported_key(chromatic, 0, "major") is None


@pytest.mark.parametrize("transpose", range(-6, 6))
def test_a_transposed_tune_has_its_key_transposed(transpose):
    names = ["C", "D-flat", "D", "E-flat", "E", "F", "F-sharp", "G", "A-flat", "A", "B-flat", "B"]
    excerpt = Excerpt(tune_of(CADENCE), 0.0, float(len(CADENCE)))
    assert excerpt.key(transpose) == f"{names[transpose % 12]} major"


def test_an_excerpt_cuts_notes_at_its_ends_and_begins_again():
    tune = tune_of([60, 62, 64, 65], duration=2.0)
    excerpt = Excerpt(tune, 1.0, 4.0)
    assert [(o, d, p) for o, d, p, _ in excerpt.notes] == [(0, 1, 60), (1, 2, 62), (3, 1, 64)]
    again = Excerpt(tune, 6.0, 6.0)
    assert [(o, p) for o, _, p, _ in again.notes] == [(0, 65), (2, 60), (4, 62)]
    assert again.beats("4/4", 1.0) == [0, 1, 2, 3, 4, 5]
    assert excerpt.voices() == 1
    assert excerpt.sounding() == 1.0
    assert excerpt.range() == (60, 64)


def test_starts_leave_room_and_changing_meters_are_refused():
    tune = tune_of(range(60, 76))
    assert starts(tune, 8.0) == [0.0, 4.0, 8.0]
    assert starts(tune, 99.0) == [0.0]
    assert meter_of(tune) == "4/4"
    changed = Tune(tune.notes, tune.bars, ["4/4", "3/4"], tune.keys, tune.length)
    assert meter_of(changed) is None
    misbarred = Tune(tune.notes, tune.bars, ["3/4"], tune.keys, tune.length)
    assert meter_of(misbarred) is None
    assert not playable(Excerpt(tune_of([60, 62]), 0.0, 2.0))


def test_octaves_put_every_note_into_the_range():
    flute = INSTRUMENTS["flute"]
    assert octaves(flute, 48, 60) == [12, 24, 36]
    assert octaves(flute, 40, 81) == []  # a chorale is wider than a flute
    assert octaves(INSTRUMENTS["choir"], 41, 81) == [0]


@pytest.mark.parametrize("package", ["music21", "pretty_midi", "tinysoundfont"])
def test_a_missing_package_is_told_with_its_command(package, monkeypatch):
    real = catalogue_module.importlib.util.find_spec
    monkeypatch.setattr(
        catalogue_module.importlib.util,
        "find_spec",
        lambda name: None if name == package else real(name),
    )
    with pytest.raises(UserError, match=rf"{package}: pip install .*--no-deps tinysoundfont"):
        Scores(clips=10)


def test_importing_the_room_imports_none_of_the_heavy_packages():
    code = (
        "import sys, glissando.datasets.scores; heavy = {'music21', 'tinysoundfont', 'torch'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
