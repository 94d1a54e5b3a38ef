"""Jobs: which excerpt of a tune, how fast, how high and on which instrument (all seeded)."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from glissando.datasets.scores.catalogue import Entry
from glissando.datasets.scores.excerpt import Excerpt, density, felt, playable, starts
from glissando.datasets.scores.instruments import INSTRUMENTS, octaves
from glissando.datasets.scores.meter import tempo_range
from glissando.datasets.scores.notes import Tune

ATTEMPTS = 20  # excerpts tried before a tune is given up


@dataclass(frozen=True)
class Job:
    """One clip. ``start`` in quarters; ``transpose`` in semitones; ``seed`` of touch and words."""

    key: str
    entry: Entry
    start: float
    instrument: str
    bpm: int
    transpose: int
    seed: int


def fraction(text: str) -> float:
    """A number in [0, 1) that the text decides, the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def jobs_of(entry: Entry, tune: Tune | None, seconds: float, seed: int) -> Iterator[Job]:
    """Jobs from one tune, without end; none if nothing of it can be used. Keys are left empty."""
    if tune is None or (measure := felt(entry.kind, tune)) is None:
        return
    _, beat = measure
    rng = random.Random(f"{seed} jobs {entry.id}")
    slow, fast = tempo_range(entry.kind, density(tune, beat))
    used: set[float] = set()
    while True:
        for _ in range(ATTEMPTS):
            bpm = round(math.exp(rng.uniform(math.log(slow), math.log(fast))))
            length = seconds * bpm / 60 * beat
            fresh = [s for s in starts(tune, length) if s not in used]
            excerpt = Excerpt(tune, rng.choice(fresh or starts(tune, length)), length)
            if playable(excerpt):
                break
        else:
            return
        used.add(excerpt.start)
        instrument, transpose = _voiced(entry.kind, excerpt, rng)
        job_seed = rng.getrandbits(32)
        yield Job("", entry, excerpt.start, instrument, bpm, transpose, job_seed)


def _voiced(kind: str, excerpt: Excerpt, rng: random.Random) -> tuple[str, int]:
    """An instrument and a transposition (-6..5 semitones and octaves) that fit together."""
    lowest, highest = excerpt.range()
    transpose = rng.randint(-6, 5)
    fits = {
        name: shifts
        for name, instrument in INSTRUMENTS.items()
        if (shifts := octaves(instrument, lowest + transpose, highest + transpose))
    }
    if not fits:  # wider than every instrument's comfortable range
        return "piano", 0
    weights = [
        INSTRUMENTS[name].chorale if kind == "chorale" else INSTRUMENTS[name].tune for name in fits
    ]
    name = rng.choices(list(fits), weights)[0]
    return name, transpose + rng.choice(fits[name])
