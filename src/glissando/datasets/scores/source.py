"""The source: which excerpt of which tune on which instrument, and the clip it becomes."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from itertools import chain, islice
from typing import Any

from glissando.datasets.base import SPLITS, Clip, Source
from glissando.datasets.scores.captions import Facts, caption
from glissando.datasets.scores.catalogue import Entry, catalogue, require
from glissando.datasets.scores.excerpt import Excerpt, felt
from glissando.datasets.scores.instruments import INSTRUMENTS
from glissando.datasets.scores.meter import tempo_word
from glissando.datasets.scores.notes import Notes
from glissando.datasets.scores.plan import Job, fraction, jobs_of
from glissando.datasets.scores.render import brightness, font_identity, render
from glissando.errors import UserError

CONTENT = 2  # version of what the same job becomes; a new one makes prepared data outdated
WARM, BRIGHT = 620.0, 1300.0  # Hz: centroids below and above which a timbre is called so
CLIPS_PER_TUNE = 2  # where there are tunes enough
CHORALES = 2.5  # how much likelier a chorale is taken than a tune: the only polyphony there is
HELD = 0.94  # how much of a note's written length is held


class Scores(Source):
    """Bach's chorales and 4,200 tunes, rendered.

    Args:
        clips: how many in all; dealt to the splits by ``splits`` (shares that sum to 1).
        seconds: length of each clip; a shorter tune is played again from its beginning.
        sample_rate: Hz. channels: 1 or 2 (see ``render`` about what stereo means here).
        seed: of the choice of tunes, excerpts, tempi, transpositions, instruments and wording.
        soundfont: path of an .sf2 file; None is TimGM6mb, inside pretty_midi.
        cache: folder for parsed notes. workers: processes that parse, None for all cores.

    All settings of one tune, in whatever collection, are in one split.
    """

    name = "scores"

    def __init__(
        self,
        clips: int = 1500,
        seconds: float = 6.0,
        sample_rate: int = 22050,
        channels: int = 1,
        seed: int = 0,
        soundfont: str | None = None,
        cache: str = "data/cache",
        splits: Mapping[str, float] | None = None,
        workers: int | None = None,
    ) -> None:
        self.splits = dict(splits or {"train": 0.9, "valid": 0.05, "test": 0.05})
        if clips < len(self.splits) or seconds <= 0 or channels not in (1, 2) or sample_rate < 8000:
            raise UserError(
                "data.seconds must be positive, data.channels 1 or 2, data.sample_rate at least "
                "8000 and data.clips at least one per split"
            )
        if set(self.splits) - set(SPLITS) or abs(sum(self.splits.values()) - 1) > 1e-6:
            raise UserError(f"data.splits must give shares of {SPLITS} that sum to 1")
        self.clips, self.seconds, self.seed = clips, float(seconds), seed
        self.sample_rate, self.channels, self.soundfont = sample_rate, channels, soundfont
        self.workers = workers or os.cpu_count() or 1
        self.notes = Notes(cache)
        require("music21", "pretty_midi", "tinysoundfont")

    def settings(self) -> dict[str, Any]:
        """Everything that decides the clips, as plain values."""
        return {
            "content": CONTENT,
            "clips": self.clips,
            "seconds": self.seconds,
            "sample_rate": self.sample_rate,
            "channels": self.channels,
            "seed": self.seed,
            "splits": self.splits,
            "soundfont": font_identity(self.soundfont),
            "music21": version("music21"),
            "tinysoundfont": version("tinysoundfont"),
        }

    def jobs(self) -> dict[str, list[Job]]:
        """The clips of each split, in a seeded order. Parses the tunes it needs the first time."""
        tunes = self._dealt()
        counts = {s: max(1, round(self.clips * share)) for s, share in self.splits.items() if share}
        counts[max(counts, key=counts.__getitem__)] += self.clips - sum(counts.values())
        # A quarter more tunes than needed: some change meter or have nothing to play.
        chosen = {s: tunes[s][: int(1.25 * n / CLIPS_PER_TUNE) + 4] for s, n in counts.items()}
        self.notes.fill([e.id for s in chosen.values() for e in s], self.workers)
        return {split: self._jobs(split, chosen[split], n) for split, n in counts.items()}

    def make(self, job: Job) -> Clip:
        """Render one job and describe it; the same job gives the same bytes."""
        entry = job.entry
        tune = self.notes.load(entry.id)
        if tune is None or (measure := felt(entry.kind, tune)) is None:
            raise ValueError(f"{entry.id} has no notes to play")
        meter, beat = measure
        quarter = 60 / job.bpm / beat  # seconds
        excerpt = Excerpt(tune, job.start, self.seconds / quarter)
        beats = [t * quarter for t in excerpt.beats(meter, beat)]
        rng = random.Random(job.seed)
        events = _played(excerpt, quarter, beats, job.transpose, rng)
        instrument = INSTRUMENTS[job.instrument]
        wave = render(
            events,
            instrument.program,
            self.seconds,
            self.sample_rate,
            self.channels,
            self.soundfont,
        )
        centroid = brightness(wave, self.sample_rate)
        pace = len({onset for onset, *_ in events}) / self.seconds
        facts = Facts(
            instrument=job.instrument,
            kind=entry.kind,
            collection=entry.collection,
            bpm=job.bpm,
            meter=meter,
            tempo=tempo_word(job.bpm, pace),
            key=excerpt.key(job.transpose),
            timbre="warm" if centroid < WARM else "bright" if centroid > BRIGHT else None,
            voices=excerpt.voices(),
        )
        attributes = {
            "caption": caption(facts, rng),
            "seconds_total": self.seconds,
            "seconds_start": 0.0,
            "group": entry.group,
            "instrument": job.instrument,
            "program": instrument.program,
            "bpm": job.bpm,
            "beat_quarters": beat,
            "meter": meter,
            "key": facts.key,
            "kind": entry.kind,
            "collection": entry.collection,
            "title": entry.title,
            "tune": entry.id,
            "tempo": facts.tempo,
            "timbre": facts.timbre,
            "brightness_hz": round(centroid, 1),
            "voices": facts.voices,
            "piece_start": round(job.start * quarter, 4),
            "piece_seconds": round(tune.length * quarter, 4),
            "transpose": job.transpose,
            "notes": [[round(o, 4), round(d, 4), pitch, loud] for o, d, pitch, loud in events],
            "beats": [round(t, 4) for t in beats],
        }
        return Clip(job.key, wave, self.sample_rate, attributes)

    def _dealt(self) -> dict[str, list[Entry]]:
        """Tunes of each split in a seeded order; the split hangs on the tune's group alone."""
        dealt: dict[str, list[Entry]] = {split: [] for split in self.splits}
        for entry in catalogue():
            place, reached = fraction(f"split {entry.group}"), 0.0
            for split, share in self.splits.items():
                reached += share
                if place < reached:
                    dealt[split].append(entry)
                    break
        for entries in dealt.values():
            entries.sort(key=self._turn)
        return dealt

    def _turn(self, entry: Entry) -> float:
        """Where a tune stands in the seeded order: a draw without replacement by weights.

        Exponential keys of rate w: Efraimidis & Spirakis, Information Processing Letters 2006.
        """
        weight = CHORALES if entry.kind == "chorale" else 1.0
        return -math.log(1.0 - fraction(f"{self.seed} {entry.id}")) / weight

    def _jobs(self, split: str, entries: list[Entry], count: int) -> list[Job]:
        """Take tunes in turn, one excerpt each a turn, until there are enough."""
        queues = []
        for entry in entries:
            found = jobs_of(entry, self.notes.load(entry.id), self.seconds, self.seed)
            first = list(islice(found, 1))
            if first:
                queues.append(chain(first, found))
        jobs: list[Job] = []
        if count and not queues:
            raise UserError(f"data.splits: no tunes fall to {split}; give it a larger share")
        while len(jobs) < count:
            jobs += [job for queue in queues[: count - len(jobs)] for job in islice(queue, 1)]
        return [replace(job, key=f"{split}-{i:06d}") for i, job in enumerate(jobs)]


def _played(
    excerpt: Excerpt, quarter: float, beats: list[float], transpose: int, rng: random.Random
) -> list[tuple[float, float, int, int]]:
    """What is played: (onset s, duration s, MIDI pitch, velocity), stressed on the beats."""
    events = []
    for onset, duration, pitch, _ in excerpt.notes:
        time = onset * quarter
        stress = 10 if any(abs(time - b) < 0.01 for b in beats) else 0
        velocity = 84 + stress + rng.randint(-6, 6)
        cut = onset + duration > excerpt.length - 1e-3  # sounds on: the clip's fade ends it
        events.append(
            (time, duration * quarter * (1 if cut else HELD), pitch + transpose, velocity)
        )
    return events
