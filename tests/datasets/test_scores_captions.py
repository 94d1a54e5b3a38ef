"""Every caption is parsed back and compared with the facts."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from glissando.datasets.scores.captions import TEMPO_WORDS, TIMBRE_WORDS, Facts, article, caption
from glissando.datasets.scores.instruments import INSTRUMENTS
from glissando.datasets.scores.meter import DANCES

METERS = {"jig": "6/8", "slip jig": "9/8", "waltz": "3/4", "minuet": "3/4", "slide": "12/8"}
NAMED = {
    name: {*i.names, *([i.many] if i.many else []), *(["fiddle"] if name == "violin" else [])}
    for name, i in INSTRUMENTS.items()
}
KIND_WORDS = {"air": {"air", "melody"}, "tune": {"tune", "melody"}, "fling": {"fling"}}


def every_fact():
    """All kinds, instruments and optional facts in turn, with a generator each."""
    rng = random.Random(5)
    kinds = [("bach", "chorale"), *(("oneills1850", k) for k in DANCES if k != "chorale")]
    kinds += [("ryansMammoth", "clog"), ("airdsAirs", "tune")]
    for (collection, kind), name in itertools.product(kinds, INSTRUMENTS):
        for _ in range(12):
            yield (
                Facts(
                    instrument=name,
                    kind=kind,
                    collection=collection,
                    bpm=rng.randint(44, 160),
                    meter=METERS.get(kind, "4/4"),
                    tempo=rng.choice([*TEMPO_WORDS, None]),
                    key=rng.choice([None, "D major", "F-sharp minor"]),
                    timbre=rng.choice([*TIMBRE_WORDS, None]),
                    voices=4 if kind == "chorale" else 1,
                ),
                rng,
            )


CAPTIONS = [(facts, caption(facts, rng)) for facts, rng in every_fact()]


def words_in(text, table):
    return {
        name for name, words in table.items() if any(re.search(rf"\b{w}\b", text) for w in words)
    }


def test_every_number_is_the_tempo_or_the_meter():
    seen = {"bpm": 0, "meter": 0}
    for facts, text in CAPTIONS:
        rest = text
        for found in re.findall(r"(\d+)/(\d+)", text):
            assert "/".join(found) == facts.meter, text
            seen["meter"] += 1
        rest = re.sub(r"\d+/\d+", "", rest)
        for number, unit in re.findall(r"(\d+) (bpm|beats per minute)", rest):
            assert int(number) == facts.bpm, (text, unit)
            seen["bpm"] += 1
        rest = re.sub(r"\d+ (bpm|beats per minute)", "", rest)
        assert not re.search(r"\d", rest), text
    assert min(seen.values()) > 0.2 * len(CAPTIONS)


def test_a_key_is_said_only_where_it_is_known_and_as_it_is():
    said = 0
    for facts, text in CAPTIONS:
        keys = re.findall(r"\b[A-G](?:-flat|-sharp)? (?:major|minor)", text)
        assert set(keys) <= {facts.key}, text
        said += bool(keys)
    assert said > 0.1 * len(CAPTIONS)


def test_tempo_and_timbre_words_are_true():
    for facts, text in CAPTIONS:
        lowered = text.lower().replace("medium-tempo", "moderate")
        assert words_in(lowered, TEMPO_WORDS) <= {facts.tempo}, text
        assert words_in(lowered, TIMBRE_WORDS) <= {facts.timbre}, text


def test_the_instrument_is_named_and_no_other():
    for facts, text in CAPTIONS:
        lowered = text.lower()
        assert any(re.search(rf"\b{name}\b", lowered) for name in NAMED[facts.instrument]), text
        for other, names in NAMED.items():
            if other != facts.instrument:
                assert not any(re.search(rf"\b{name}\b", lowered) for name in names), text
        many = INSTRUMENTS[facts.instrument].many
        assert facts.voices > 1 or many is None or many not in lowered, text


def test_kind_and_origin_are_true():
    kinds = {kind: KIND_WORDS.get(kind, {kind}) for kind in DANCES}
    for facts, text in CAPTIONS:
        lowered = text.lower().replace("melody line", "").replace("unaccompanied melody", "")
        lowered = re.sub(r"from (o'neill's music of ireland|aird's airs)", "", lowered)
        said = words_in(lowered, kinds)
        allowed = {facts.kind} | ({"jig"} if facts.kind == "slip jig" else set())
        allowed |= {"tune", "air"} if "melody" in kinds.get(facts.kind, set()) else set()
        assert said <= allowed, text
        assert ("Irish" not in text) or facts.collection == "oneills1850", text
        assert ("Bach" not in text) or facts.collection == "bach", text
        assert ("traditional" not in text) or facts.kind not in ("tune", "chorale"), text


def test_a_and_an():
    for _, text in CAPTIONS:
        for found, word in re.findall(r"\b([Aa]n?) ([A-Za-z-]+)", text):
            assert (found.lower() == "an") == (word[0].lower() in "aeiou"), text
    assert article("Irish air") == "an Irish air"
    assert article("slow air") == "a slow air"
    assert article("unhurried reel") == "an unhurried reel"


def test_texture_is_true():
    for facts, text in CAPTIONS:
        assert ("four" not in text.lower()) or facts.voices == 4, text
        assert ("unaccompanied" not in text and "single" not in text) or facts.voices == 1, text


def test_wording_varies_and_is_tidy():
    texts = [text for _, text in CAPTIONS]
    shapes = {re.sub(r"\d+", "0", text) for text in texts}
    assert len(shapes) > 0.8 * len(texts)
    lengths = sorted(len(text.split()) for text in texts)
    assert lengths[len(lengths) // 10] <= 6
    assert lengths[-len(lengths) // 10] >= 14
    for text in texts:
        assert text == text.strip()
        assert not re.search(r"  |,,|\.\.|, ,| ,|\bNone\b", text), text


def test_the_generator_alone_decides_the_wording():
    facts = CAPTIONS[0][0]
    assert caption(facts, random.Random(3)) == caption(facts, random.Random(3))
    assert len({caption(facts, random.Random(i)) for i in range(50)}) > 25


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_several_voices_need_several_players(name):
    facts = Facts(name, "chorale", "bach", 60, "4/4", None, None, None, 4)
    many = INSTRUMENTS[name].many
    for i in range(40):
        text = caption(facts, random.Random(i))
        assert many is None or many in text.lower(), text
