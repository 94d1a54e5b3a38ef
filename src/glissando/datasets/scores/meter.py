"""Beats and tempi: what a listener would tap to, for each meter and kind of piece."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

QUADRUPLE = ("4/4", "2/2")
# The felt beat in quarter notes where the kind of piece says nothing else.
BEATS = {
    "2/4": 1.0,
    "3/4": 1.0,
    "4/4": 1.0,
    "5/4": 1.0,
    "2/2": 2.0,
    "3/2": 2.0,
    "6/4": 3.0,
    "3/8": 1.5,
    "6/8": 1.5,
    "9/8": 1.5,
    "12/8": 1.5,
}


@dataclass(frozen=True)
class Dance:
    """A kind of piece: meters it may have, its tempo range in felt beats a minute.

    ``beat`` (quarters) replaces the beat of 4/4 and 2/2: a reel is felt in two however it is
    notated, a strathspey in four.
    """

    meters: tuple[str, ...]
    slow: int
    fast: int
    beat: float | None = None


ANY = tuple(BEATS)
DANCES = {
    "chorale": Dance(ANY, 48, 104),
    "air": Dance(ANY, 44, 100),
    "reel": Dance(("4/4", "2/2", "2/4"), 72, 126, beat=2.0),
    "hornpipe": Dance(("4/4", "2/2", "2/4"), 60, 108, beat=2.0),
    "clog": Dance(("4/4", "2/2", "2/4"), 60, 104, beat=2.0),
    "jig": Dance(("6/8", "12/8"), 76, 138),
    "slip jig": Dance(("9/8",), 76, 132),
    "slide": Dance(("6/8", "12/8"), 90, 144),
    "strathspey": Dance(("4/4", "2/2"), 84, 144, beat=1.0),
    "fling": Dance(("4/4", "2/2"), 96, 152, beat=1.0),
    "march": Dance(("4/4", "2/2", "2/4", "6/8"), 72, 126),
    "minuet": Dance(("3/4", "3/8"), 80, 138),
    "waltz": Dance(("3/4",), 90, 168),
    "gavotte": Dance(("4/4", "2/2", "2/4"), 60, 104),
    "tune": Dance(ANY, 56, 132),
}
# Notes a second: faster or slower than this, no tempo of the range would sound natural.
SPARSE, DENSE = 1.0, 9.0


def beat_quarters(kind: str, meter: str) -> float:
    """Quarter notes in one felt beat (a dotted quarter in 6/8 is 1.5)."""
    special = DANCES[kind].beat if meter in QUADRUPLE else None
    return special or BEATS[meter]


def tempo_range(kind: str, notes_per_beat: float) -> tuple[int, int]:
    """Slowest and fastest bpm for a piece, narrowed so that its notes stay playable."""
    dance = DANCES[kind]
    fast = min(dance.fast, max(dance.slow, int(60 * DENSE / notes_per_beat)))
    slow = max(dance.slow, min(fast, ceil(60 * SPARSE / notes_per_beat)))
    return slow, fast


def tempo_word(bpm: float, notes_per_second: float) -> str | None:
    """ "slow", "moderate" or "fast", or None where the beat and the notes disagree."""
    if bpm < 76 and notes_per_second < 5:
        return "slow"
    if 76 <= bpm < 112:
        return "moderate"
    if bpm >= 112 and notes_per_second > 2.5:
        return "fast"
    return None


def beats(bars: list[float], length: float, bar: float, beat: float) -> list[float]:
    """Times of all beats, in quarters from the beginning of the piece.

    ``bars`` are the bars' starts, ``length`` the piece's, ``bar`` a full bar's (all in quarters).
    A short first bar is an upbeat, and so is a short bar after a short bar (a repeat splits a bar
    in two): their beats are counted back from their end.
    """
    found: list[float] = []
    ends = [*bars[1:], length]
    before_short = True
    for start, end in zip(bars, ends, strict=True):
        short = end - start < bar - 1e-3
        upbeat = short and before_short
        before_short = short and not upbeat
        count = int((end - start) / beat + 1e-6)
        if upbeat:
            found += [end - k * beat for k in range(count, 0, -1)]
        else:
            times = [start + k * beat for k in range(count + 1)]
            found += [t for t in times if t < end - 1e-3]
    return found
