"""The instruments: General MIDI programs that sound clearly different from each other.

All of them play every kind of piece they have the range for, so that instrument and tune stay
nearly independent; the weights only lean towards what is usual.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Instrument:
    """One sound.

    ``program``: General MIDI, from 0. ``low``, ``high``: comfortable MIDI range. ``names``: how
    captions call one of them. ``many``: how they call the players of several voices, where one
    player cannot play chords. ``chorale``, ``tune``: relative frequency.
    """

    program: int
    low: int
    high: int
    names: tuple[str, ...]
    many: str | None
    chorale: float
    tune: float


INSTRUMENTS = {
    "piano": Instrument(0, 33, 93, ("piano",), None, 2.0, 1.5),
    "harpsichord": Instrument(6, 36, 86, ("harpsichord",), None, 1.0, 1.0),
    "music box": Instrument(10, 60, 100, ("music box",), None, 0.7, 1.0),
    "church organ": Instrument(19, 36, 91, ("church organ", "pipe organ", "organ"), None, 2.0, 0.7),
    "accordion": Instrument(21, 43, 88, ("accordion",), None, 0.8, 1.2),
    "guitar": Instrument(
        24, 40, 83, ("acoustic guitar", "guitar", "nylon-string guitar"), None, 1.0, 1.2
    ),
    "violin": Instrument(40, 55, 93, ("violin",), "violins", 0.5, 1.5),
    "strings": Instrument(48, 36, 91, ("string ensemble", "string section"), None, 1.5, 0.7),
    "choir": Instrument(52, 41, 81, ("choir", "wordless choir"), None, 2.0, 0.7),
    "trumpet": Instrument(56, 52, 84, ("trumpet",), "trumpets", 0.5, 1.0),
    "clarinet": Instrument(71, 50, 89, ("clarinet",), "clarinets", 0.7, 1.0),
    "flute": Instrument(73, 60, 96, ("flute",), "flutes", 0.5, 1.5),
}


def octaves(instrument: Instrument, lowest: int, highest: int) -> list[int]:
    """Shifts by whole octaves (in semitones) that put lowest..highest into the range."""
    return [
        shift
        for shift in range(-36, 37, 12)
        if instrument.low <= lowest + shift and highest + shift <= instrument.high
    ]
