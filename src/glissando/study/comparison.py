"""The table of representations and the page to hear them on, renewed row by row in one folder."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from glissando.datasets.base import Batch
from glissando.datasets.stream import open_stream
from glissando.errors import UserError
from glissando.files import write_whole
from glissando.gallery.folder import write_clip
from glissando.gallery.page import write_page
from glissando.study.candidates import Candidate
from glissando.study.roundtrip import RoundTrip, round_trip, values_per_second
from glissando.training.adversary import waveform

ROWS, SOUNDS = "rows", "listen"
HEADS = (
    "representation", "C x F", "frames/s", "values/s", "SI-SDR (dB)", "mel", "STFT",
    "encode (x real time)", "decode (x real time)", "trained for (core-min)",
)  # fmt: skip
NOTES = """\
Whole clips of the test split there and back, {clips} of them, {seconds:.0f} s in all; means over
clips. *mel*: mean absolute difference of natural-log mel spectrograms (80 bands); *STFT*:
multi-resolution STFT distance (seven windows from 32 to 2048 samples). *Speed*: seconds of audio
coded in a second of one thread's processor time. *Trained for*: processor time of all cores
together, 0 where nothing is learned, "?" where the checkpoint does not say.
"""


@dataclass(frozen=True)
class Row:
    """A candidate and what was measured of it, or in ``fault`` why nothing could be."""

    name: str
    flags: str
    place: int
    channels: int | None = None
    freqs: int | None = None
    frame_rate: float | None = None
    values: float | None = None
    core_seconds: float | None = None
    trip: RoundTrip | None = None
    fault: str | None = None


@dataclass(frozen=True)
class _Heard:
    """A clip of the page."""

    wave: Tensor
    sample_rate: int
    prompt: str
    facts: dict[str, Any]


def compare(
    candidate: Candidate, place: int, data: DictConfig, root: Path, folder: Path, clips: int,
    listen: int,
) -> Row:  # fmt: skip
    """Measures one candidate on ``root``'s test split and renews table and page in ``folder``.

    A candidate that cannot be built for this data leaves a row with the reason. ``place`` orders
    the rows.
    """
    row = Row(candidate.name, candidate.flags, place)
    try:
        form = candidate.build(data)
        core_seconds = candidate.core_seconds()
    except UserError as error:
        row = Row(candidate.name, candidate.flags, place, fault=str(error))
    else:
        originals = list(_clips(root, min(clips, listen)))
        waves = (waveform(batch) for batch in _clips(root, clips))
        trip, kept = round_trip(form, waves, len(originals))
        row = Row(
            candidate.name, candidate.flags, place, form.channels, form.freqs,
            form.sample_rate / form.hop, values_per_second(form), core_seconds, trip,
        )  # fmt: skip
        _sounds(folder / SOUNDS, candidate, form.sample_rate, originals, kept)
    text = json.dumps(asdict(row), indent=2)
    (folder / ROWS).mkdir(parents=True, exist_ok=True)
    write_whole(folder / ROWS / f"{candidate.slug}.json", f"{text}\n".encode())
    write_tables(folder)
    return row


def _clips(root: Path, count: int) -> Iterator[Batch]:
    """The first whole clips of the test split, one by one."""
    return islice(open_stream(root, "test", None, 1), count)


def _sounds(
    folder: Path, candidate: Candidate, rate: int, originals: Sequence[Batch],
    kept: Sequence[Tensor],
) -> None:  # fmt: skip
    """Originals and what came back of them: sorted by clip, the original first."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (batch, again) in enumerate(zip(originals, kept, strict=True)):
        wave, caption = waveform(batch)[0], batch.attributes[0].get("caption") or ""
        original = folder / f"{number:03}-0-original"
        if not original.with_suffix(".wav").is_file():
            write_clip(original, _Heard(wave, rate, f"original: {caption}", {}))
        facts = {"representation": candidate.name, "flags": candidate.flags}
        came = _Heard(again, rate, f"{candidate.name}: {caption}", facts)
        write_clip(folder / f"{number:03}-1-{candidate.slug}", came, wave)
    if originals:
        write_page(folder, "Representations, there and back")


def rows_of(folder: Path) -> list[Row]:
    """All rows that were measured into a folder, in their order."""
    found = [json.loads(path.read_text("utf-8")) for path in (folder / ROWS).glob("*.json")]
    rows = [
        Row(**{**each, "trip": RoundTrip(**each["trip"]) if each["trip"] else None})
        for each in found
    ]
    return sorted(rows, key=lambda row: (row.place, row.flags))


def write_tables(folder: Path) -> None:
    """``table.md`` and ``table.csv`` of the rows that are there."""
    rows = rows_of(folder)
    write_whole(folder / "table.md", markdown(rows).encode())
    write_whole(folder / "table.csv", comma_separated(rows).encode())


def markdown(rows: Sequence[Row]) -> str:
    """The table for people; below it the flags of each row, and what could not be measured."""
    measured = [row for row in rows if row.trip is not None]
    lines = [_line(HEADS), _line(["---", *["---:"] * (len(HEADS) - 1)])]
    lines += [_line(_cells(row, row.trip)) for row in measured if row.trip is not None]
    text = "\n".join(lines) + "\n"
    for clips, seconds in sorted({(r.trip.clips, r.trip.seconds) for r in measured if r.trip}):
        text += "\n" + NOTES.format(clips=clips, seconds=seconds)
    text += "\nBy flags:\n\n" + "".join(f"- {row.name}: `{row.flags}`\n" for row in measured)
    if faults := [row for row in rows if row.fault]:
        text += "\nNot measured:\n\n"
        text += "".join(f"- {row.name}, `{row.flags}`: {row.fault}\n" for row in faults)
    return text


def comma_separated(rows: Sequence[Row]) -> str:
    """The table for programs: unrounded, empty where nothing is known."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    own = [each.name for each in fields(Row) if each.name not in ("place", "trip")]
    figures = [each.name for each in fields(RoundTrip)]
    writer.writerow([*own, *figures])
    for row in rows:
        trip = [None] * len(figures) if row.trip is None else list(asdict(row.trip).values())
        writer.writerow([*(getattr(row, name) for name in own), *trip])
    return text.getvalue()


def _cells(row: Row, trip: RoundTrip) -> list[str]:
    trained = "?" if row.core_seconds is None else f"{row.core_seconds / 60:.3g}"
    return [
        row.name, f"{row.channels} x {row.freqs}", f"{row.frame_rate:.1f}", f"{row.values:,.0f}",
        _up_to(trip.si_sdr, 100, ".1f"), f"{trip.mel:.3f}", f"{trip.stft:.3f}",
        _up_to(trip.encode, 10_000, ",.0f"), _up_to(trip.decode, 10_000, ",.0f"), trained,
    ]  # fmt: skip


def _up_to(number: float, most: int, form: str) -> str:
    """What is beyond is rounding errors, or the clock's."""
    return format(number, form) if number < most else f"> {most:,}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
