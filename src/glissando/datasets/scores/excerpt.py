"""A few seconds of a tune: which notes, where the beats are, what is true of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median

from glissando.datasets.scores.keys import histogram, supported_key
from glissando.datasets.scores.meter import BEATS, beat_quarters, beats
from glissando.datasets.scores.notes import Tune

Note = tuple[float, float, int, int]  # onset and duration (quarters), MIDI pitch, voice


def meter_of(tune: Tune) -> str | None:
    """The tune's meter; None where it changes, has no known beat or most bars contradict it."""
    meters = set(tune.meters)
    if len(meters) != 1 or not meters <= BEATS.keys():
        return None
    bars = [end - start for start, end in pairwise([*tune.bars, tune.length])]
    (meter,) = meters
    return meter if abs(median(bars) - _bar(meter)) < 1e-3 else None


def _bar(meter: str) -> float:
    """Length of a full bar in quarters."""
    return float(4 * Fraction(meter))


def density(tune: Tune, beat: float) -> float:
    """Onsets per felt beat."""
    return len({onset for onset, *_ in tune.notes}) * beat / tune.length


@dataclass(frozen=True)
class Excerpt:
    """``length`` quarters of a tune from ``start``; a tune that ends before begins again."""

    tune: Tune
    start: float
    length: float

    @property
    def notes(self) -> list[Note]:
        """Notes relative to the start; those held over either end are cut there."""
        found: list[Note] = []
        for shift in self._turns():
            for onset, duration, pitch, voice in self.tune.notes:
                begin = max(onset + shift, 0.0)
                end = min(onset + duration + shift, self.length)
                if end - begin > 1e-3:
                    found.append((begin, end - begin, pitch, voice))
        return sorted(found)

    def beats(self, meter: str, beat: float) -> list[float]:
        """Felt beats relative to the start, in quarters."""
        own = beats(self.tune.bars, self.tune.length, _bar(meter), beat)
        shifted = [t + shift for shift in self._turns() for t in own]
        return sorted(t for t in shifted if -1e-3 <= t < self.length - 1e-3)

    def key(self, transpose: int) -> str | None:
        """The key that notation and sounding notes agree on, transposed by semitones."""
        signatures = {signature[1:] for signature in self.tune.keys}
        if len(signatures) != 1:
            return None  # the notation changes key somewhere
        sharps, mode = signatures.pop()
        weights = histogram([n[2] + transpose for n in self.notes], [n[1] for n in self.notes])
        # A semitone up is seven fifths up, give or take twelve, which does not matter here.
        return supported_key(weights, sharps + 7 * transpose, mode)

    def voices(self) -> int:
        """The most parts that sound at once."""
        edges = [(round(o, 3), 1) for o, *_ in self.notes]
        edges += [(round(o + d, 3), -1) for o, d, *_ in self.notes]
        most = now = 0
        for _, change in sorted(edges):
            now += change
            most = max(most, now)
        return most

    def sounding(self) -> float:
        """Share of the excerpt in which something sounds."""
        total = reached = 0.0
        for onset, duration, *_ in self.notes:
            total += max(0.0, onset + duration - max(reached, onset))
            reached = max(reached, onset + duration)
        return total / self.length

    def range(self) -> tuple[int, int]:
        """Lowest and highest pitch; the excerpt must not be empty."""
        pitches = [n[2] for n in self.notes]
        return min(pitches), max(pitches)

    def _turns(self) -> list[float]:
        """Shifts of the tune's beginning that put a part of it inside the excerpt."""
        turns = [-self.start]
        while turns[-1] + self.tune.length < self.length - 1e-6:
            turns.append(turns[-1] + self.tune.length)
        return turns


def starts(tune: Tune, length: float) -> list[float]:
    """Bar starts from which ``length`` quarters fit; only the first where none does."""
    fitting = [bar for bar in tune.bars if bar + length <= tune.length + 1e-6]
    return fitting or tune.bars[:1]


def felt(kind: str, tune: Tune) -> tuple[str, float] | None:
    """(meter, quarters in a felt beat), or None where the meter is not one throughout."""
    meter = meter_of(tune)
    return (meter, beat_quarters(kind, meter)) if meter else None


def playable(excerpt: Excerpt) -> bool:
    """Enough happens: four notes begin, something sounds for most of the time."""
    onsets = Counter(onset for onset, *_ in excerpt.notes)
    return len(onsets) >= 4 and excerpt.sounding() > 0.6 and min(onsets) < 0.25 * excerpt.length
