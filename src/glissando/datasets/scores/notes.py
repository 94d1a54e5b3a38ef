"""Scores -> notes: parsed once with music21, then kept as one small file per tune.

Parsing everything takes about four minutes on one core and 3 MB on disk. Each file is written
under another name and renamed, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from glissando.datasets.processes import mapped
from glissando.datasets.scores.catalogue import abc_meters, abc_text, corpus
from glissando.progress import ERR, Bar

VERSION = 2  # of the files' content; a new one parses again
SMALL = 32  # so few tunes are parsed faster here than by processes that must first import music21

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tune:
    """A piece in quarter notes: what its score says, repeats not played.

    ``notes``: (onset, duration, MIDI pitch, voice), sorted by onset; ``bars``: starts of the bars;
    ``meters``: all that the score names ("6/8"), in order; ``keys``: (offset, sharps, mode or
    None); ``length``: end of the last bar.
    """

    notes: list[tuple[float, float, int, int]]
    bars: list[float]
    meters: list[str]
    keys: list[tuple[float, int, str | None]]
    length: float


class Notes:
    """The notes of tunes, from ``folder`` where they are cached, else from the score."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder) / f"scores-notes-{VERSION}"

    def load(self, tune_id: str) -> Tune | None:
        """One tune, or None if its score holds nothing that can be played."""
        path = self.folder / f"{tune_id}.json"
        if not path.exists():
            _store(self.folder, tune_id)
        return _read(path)

    def fill(self, tune_ids: list[str], workers: int) -> None:
        """Parse those that are not cached yet, showing how far it is."""
        missing = [i for i in tune_ids if not (self.folder / f"{i}.json").exists()]
        if not missing:
            return
        store = partial(_store, self.folder)
        workers = 1 if len(missing) <= SMALL else workers
        with (
            Bar("reading scores (once)", len(missing), console=ERR) as bar,
            mapped(store, missing, workers) as done,
        ):
            for _ in done:
                bar.advance()


@lru_cache(maxsize=512)
def _read(path: Path) -> Tune | None:
    found = json.loads(path.read_text(encoding="utf-8"))
    if found is None:
        return None
    rows = {name: [tuple(row) for row in found[name]] for name in ("notes", "keys")}
    return Tune(**rows, bars=found["bars"], meters=found["meters"], length=found["length"])


def _store(folder: Path, tune_id: str) -> None:
    tune = parse(tune_id)
    path = folder / f"{tune_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.part")
    text = json.dumps(asdict(tune) if tune else None, separators=(",", ":"))
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def parse(tune_id: str) -> Tune | None:
    """Read one score with music21 (0.05 s); None where it cannot or nothing sounds."""
    collection = tune_id.split("/")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if collection == "bach":
                return _tune(_chorale(tune_id))
            # Where a repeat splits a bar, music21 writes meters such as 1/16: take ABC's own.
            return _tune(_abc(tune_id), abc_meters(abc_text(tune_id)))
        except Exception as error:  # music21 raises many kinds on faulty ABC, none of one family
            log.debug("no notes from %s: %s", tune_id, error)
            return None


def _chorale(tune_id: str) -> list[Any]:
    from music21 import converter

    path = corpus() / tune_id
    score: Any = converter.parse(path, forceSource=True, storePickle=False)
    voices = ("Soprano", "Alto", "Tenor", "Bass")
    return [p for p in score.parts if str(p.partName).strip().split(" ")[0] in voices]


def _abc(tune_id: str) -> list[Any]:
    from music21.abcFormat import ABCFile
    from music21.abcFormat.translate import abcToStreamScore

    score: Any = abcToStreamScore(ABCFile().readstr(abc_text(tune_id)))
    return list(score.parts)


def _tune(parts: list[Any], named: list[str] | None = None) -> Tune | None:
    """The notes of all parts; the meters are those ``named``, or else the score's."""
    from music21 import key, meter, stream

    notes = [note for voice, part in enumerate(parts) for note in _voice(part, voice)]
    if not notes:
        return None
    first = parts[0]
    flat = first.flatten()
    bars = sorted({_q(m.offset) for m in first.getElementsByClass(stream.Measure)})
    signatures = flat.getElementsByClass(meter.TimeSignature)
    meters = named or [signature.ratioString for signature in signatures]
    keys = [
        (_q(k.offset), int(k.sharps), getattr(k, "mode", None))
        for k in flat.getElementsByClass(key.KeySignature)
    ]
    if not bars or not meters or not keys:
        return None
    length = max(_q(first.highestTime), *(onset + held for onset, held, _, _ in notes))
    return Tune(sorted(notes), bars, meters, keys, length)


def _voice(part: Any, voice: int) -> list[tuple[float, float, int, int]]:
    """The notes of a part; tied ones joined, chord symbols and grace notes left out."""
    from music21 import harmony

    joined: list[list[Any]] = []
    held: dict[int, list[Any]] = {}
    for element in part.flatten().notes:
        if isinstance(element, harmony.Harmony) or element.duration.isGrace:
            continue
        onset, duration = _q(element.offset), _q(element.quarterLength)
        for note in getattr(element, "notes", [element]):
            tie = note.tie.type if note.tie else None
            before = held.pop(note.pitch.midi, None)
            if tie in ("continue", "stop") and before and abs(sum(before[:2]) - onset) < 1e-3:
                before[1] = onset + duration - before[0]
                current = before
            elif duration > 0:
                current = [onset, duration, int(note.pitch.midi), voice]
                joined.append(current)
            else:
                continue
            if tie in ("start", "continue"):
                held[note.pitch.midi] = current
    return [(_q(o), _q(d), midi, v) for o, d, midi, v in joined]


def _q(value: Any) -> float:
    """Quarter notes as a short decimal (music21 gives fractions for triplets)."""
    return round(float(value), 5)
