"""Captions that vary in wording and say only what is true of the excerpt.

A caption states a random choice of the facts in one of three forms: tags ("fiddle jig, 120 bpm"),
a phrase ("a slow Irish air on flute in D major") or sentences. Its only numbers are the tempo in
felt beats a minute and the meter.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from glissando.datasets.scores.instruments import INSTRUMENTS

TEMPO_WORDS = {
    "slow": ("slow", "slow", "unhurried"),
    "moderate": ("moderate", "medium-tempo", "steady"),
    "fast": ("fast", "lively", "quick", "fast"),
}
TIMBRE_WORDS = {"warm": ("warm", "warm", "mellow", "soft-toned"), "bright": ("bright", "brilliant")}
SOURCES = {
    "bach": ("a harmonization by Bach", "by J. S. Bach"),
    "oneills1850": ("from O'Neill's Music of Ireland",),
    "ryansMammoth": ("from Ryan's Mammoth Collection",),
    "airdsAirs": ("from Aird's Airs",),
}
NOUNS = {
    "tune": ("tune", "melody", "tune"),
    "fling": ("highland fling", "fling"),
    "clog": ("clog", "clog dance"),
    "air": ("air", "air", "melody"),
}
# Dances and airs whose players would call the violin a fiddle.
FIDDLED = ("jig", "slip jig", "slide", "reel", "hornpipe", "strathspey", "fling", "clog", "air")


@dataclass(frozen=True)
class Facts:
    """What is true of an excerpt; None where it is not known.

    ``tempo``: a key of TEMPO_WORDS; ``timbre``: a key of TIMBRE_WORDS; ``voices``: the most parts
    that sound at once.
    """

    instrument: str
    kind: str
    collection: str
    bpm: int
    meter: str
    tempo: str | None
    key: str | None
    timbre: str | None
    voices: int


def caption(facts: Facts, rng: random.Random) -> str:
    """One caption, drawn with ``rng``."""
    forms: tuple[Callable[[Facts, random.Random], str], ...] = (_tags, _phrase, _sentences)
    return rng.choices(forms, (0.3, 0.4, 0.3))[0](facts, rng)


def article(words: str) -> str:
    """ "an Irish air" from "Irish air": by sound, for the words that occur here."""
    return f"{'an' if words[0].lower() in 'aeio' or words.startswith('un') else 'a'} {words}"


def _tempo(facts: Facts, rng: random.Random) -> str:
    return rng.choice(TEMPO_WORDS[facts.tempo]) if facts.tempo else ""


def _timbre(facts: Facts, rng: random.Random) -> str:
    return rng.choice(TIMBRE_WORDS[facts.timbre]) if facts.timbre else ""


def _instrument(facts: Facts, rng: random.Random) -> str:
    """Singular without an article ("flute"), or plural ("flutes") where several must play."""
    instrument = INSTRUMENTS[facts.instrument]
    if facts.voices > 1 and instrument.many:
        return instrument.many
    names = instrument.names
    if facts.instrument == "violin" and facts.kind in FIDDLED:
        names = (*names, "fiddle")
    return rng.choice(names)


def _kind(facts: Facts, rng: random.Random) -> str:
    """ "Irish jig", "Bach chorale": the kind with its origin where that is known."""
    noun = rng.choice(NOUNS.get(facts.kind, (facts.kind,)))
    if facts.collection == "bach":
        extra = ["", "Bach", "Bach"] + (["four-part"] if facts.voices == 4 else [])
        return f"{rng.choice(extra)} {noun}".strip()
    if facts.collection != "oneills1850":
        return noun  # the other collections mix origins, old and newly made
    # Tunes of no known kind may be O'Carolan's or another composer's: Irish, not traditional.
    extra = ["", "Irish", "Irish"] + (["traditional Irish"] if facts.kind != "tune" else [])
    return f"{rng.choice(extra)} {noun}".strip()


def _join(*words: str) -> str:
    return " ".join(word for word in words if word)


def _tags(facts: Facts, rng: random.Random) -> str:
    """ "warm piano, slow, 60 bpm": comma-separated, no grammar."""
    instrument, kind = _instrument(facts, rng), _kind(facts, rng)
    timbre, tempo = _timbre(facts, rng), _tempo(facts, rng)
    head = rng.choice(
        (
            _join(timbre, instrument),
            _join(instrument, kind) if " " not in kind else f"{kind}, {instrument}",
            _join(tempo, kind) + f", {instrument}",
            _join(tempo, timbre, instrument),
            f"{kind} on {instrument}",
        )
    )
    rest = [f"{facts.bpm} bpm"] if rng.random() < 0.75 else []
    if tempo and tempo not in head and rng.random() < 0.4:
        rest.append(tempo)
    if kind not in head and rng.random() < 0.6:
        rest.append(kind)
    if facts.key and rng.random() < 0.4:
        rest.append(facts.key)
    if rng.random() < 0.3:
        rest.append(_meter(facts, rng))
    rng.shuffle(rest)
    return ", ".join([head, *rest])


def _meter(facts: Facts, rng: random.Random) -> str:
    return rng.choice((facts.meter, f"{facts.meter} time"))


def _subject(facts: Facts, rng: random.Random) -> str:
    """ "a slow Irish air played on a flute" """
    tempo = _tempo(facts, rng) if rng.random() < 0.6 else ""
    timbre = _timbre(facts, rng) if rng.random() < 0.5 else ""
    instrument = _join(timbre, _instrument(facts, rng))
    several = facts.voices > 1 and INSTRUMENTS[facts.instrument].many
    ensemble = several or facts.instrument in ("choir", "strings")
    verb = rng.choice(("for", "by") if ensemble else ("on", "on", "played on"))
    if not several and (ensemble or timbre or rng.random() < 0.4):
        instrument = article(instrument)
    piece = article(_join(tempo, _kind(facts, rng)))
    return f"{piece} {verb} {instrument}"


def _phrase(facts: Facts, rng: random.Random) -> str:
    text = _subject(facts, rng)
    if facts.key and rng.random() < 0.5:
        text += f" in {facts.key}"
    if rng.random() < 0.3:
        text += rng.choice((f", in {facts.meter}", f", {facts.meter} time"))
    if rng.random() < 0.5:
        text += rng.choice((f" at {facts.bpm} bpm", f", {facts.bpm} bpm"))
    return text


def _sentences(facts: Facts, rng: random.Random) -> str:
    subject = _subject(facts, rng)
    sentences = [rng.choice((subject, subject, f"This is {subject}"))]
    if rng.random() < 0.3 and "Bach" not in subject:
        sentences[0] += f", {rng.choice(SOURCES[facts.collection])}"
    more = [
        rng.choice(
            (
                f"the tempo is {facts.bpm} bpm",
                f"it moves at {facts.bpm} beats per minute",
                f"tempo: {facts.bpm} bpm",
            )
        ),
        rng.choice((f"the meter is {facts.meter}", f"it is in {facts.meter} time")),
    ]
    if facts.key:
        more.append(rng.choice((f"it is in {facts.key}", f"the key is {facts.key}")))
    if facts.voices == 1:
        more.append(rng.choice(("a single melody line", "an unaccompanied melody")))
    if facts.voices == 4 and "four-part" not in subject:
        more.append(rng.choice(("four voices move in harmony", "the texture is four-part harmony")))
    sentences += rng.sample(more, rng.randint(1, min(3, len(more))))
    return " ".join(s[0].upper() + s[1:] + "." for s in sentences)
