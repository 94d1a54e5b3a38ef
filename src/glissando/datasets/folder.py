"""One's own music: every audio file below a folder, with the captions found beside it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from glissando.datasets.audio import converted, plausible, stretch
from glissando.datasets.base import SPLITS, Clip, Refused, Source
from glissando.datasets.captions import Captions
from glissando.datasets.splits import dealt, shares
from glissando.errors import UserError
from glissando.progress import note

READABLE = {"wav", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "aifc", "au", "caf", "w64"}
#: Audio that libsndfile does not read: refused by name instead of being passed over.
UNREADABLE = {"m4a", "aac", "wma", "mp4", "ape", "wv", "dsf"}

#: Seconds of the longest file that is kept whole: it must fit into the memory several times.
LONGEST = 3600


@dataclass(frozen=True)
class FileJob:
    """One clip of a folder: ``seconds`` from ``start`` of ``path`` (None: the whole file)."""

    key: str
    path: Path
    group: str
    start: float = 0.0
    seconds: float | None = None


class Folder(Source):
    """A source of the audio files below ``root``: WAV, FLAC, Ogg, Opus, MP3, AIFF ….

    Captions and other facts, the first that there is: ``song.json`` beside ``song.wav`` (an
    object; ``caption`` and any other fields), ``song.txt`` (the caption), the row of the file in
    ``captions.csv`` or ``metadata.csv`` at the root, or ``.parquet`` or ``.jsonl`` of these names
    (columns ``file`` and ``caption``, others become fields), the file's name without its ending.
    Its own tags (title, artist, genre …) are fields too, where nothing else says so. Hidden files
    and folders are passed over.

    Args:
        root: the folder, searched to any depth.
        seconds: None keeps files whole; else they are cut into windows of that length, each with
            its true ``seconds_start``; what is left at the end is a shorter clip if it has
            ``shortest`` seconds or more.
        sample_rate, channels: of the clips; files are resampled (soxr, very high quality), mixed
            down to mono by the mean, or repeated from mono.
        seed: another seed, other splits.
        splits: shares of the groups, which sum to 1. A group is the field ``group`` if a file has
            one (an album), else the file; groups go to splits by a hash of their name, so a new
            file moves no other. A split left empty by chance gets one group if there are three or
            more.
        caption: a template over the fields, e.g. "{title}, {genre}"; None takes the caption found.
        shortest: in seconds; a shorter file is refused.

    Raises UserError when ``root`` is no folder or has no audio file.
    """

    name = "folder"

    def __init__(
        self,
        root: Path | str,
        seconds: float | None = None,
        sample_rate: int = 22050,
        channels: int = 1,
        seed: int = 0,
        splits: Mapping[str, float] | None = None,
        caption: str | None = None,
        shortest: float = 0.5,
    ) -> None:
        self.root = Path(root).expanduser().resolve()
        if not self.root.is_dir():
            raise UserError(f"data.root={root} is not a folder")
        if seconds is not None and seconds < shortest:
            raise UserError(f"data.seconds={seconds} is less than data.shortest={shortest}")
        for name, number in (("sample_rate", sample_rate), ("channels", channels)):
            if number < 1:
                raise UserError(f"data.{name} must be at least 1, not {number}")
        self.splits = shares(splits)
        self.seconds, self.sample_rate, self.channels = seconds, sample_rate, channels
        self.seed, self.caption, self.shortest = seed, caption, shortest
        self.captions = Captions(self.root, caption)

    def settings(self) -> dict[str, Any]:
        """Every argument; the files themselves are the jobs' matter."""
        names = ("seconds", "sample_rate", "channels", "seed", "splits", "caption", "shortest")
        return {"root": str(self.root), **{name: getattr(self, name) for name in names}}

    def jobs(self) -> Mapping[str, list[FileJob]]:
        """The clips of each split, sorted by path; a damaged file has one job, which is refused."""
        files = audio_files(self.root)
        groups = {path: self.captions.group(path) for path in files}
        split_of = dealt(set(groups.values()), self.splits, self.seed)
        jobs: dict[str, list[FileJob]] = {split: [] for split in SPLITS}
        for path, group in groups.items():
            jobs[split_of[group]] += self._windows(path, group)
        if bare := [path for path in files if self.captions.is_bare(path)]:
            note(
                f"{len(bare)} of {len(files)} files have no caption and take their file's name, "
                f"e.g. {bare[0].stem!r}"
            )
        return jobs

    def make(self, job: FileJob) -> Clip:
        """Read, resample and mix one clip. Raises Refused with the reason where that fails."""
        wave, total, tags = self._read(job)
        # Before ours: a file cannot misstate these.
        attributes = self.captions.fields(job.path, tags)
        attributes |= {
            "seconds_total": total,
            "seconds_start": job.start,
            "group": job.group,
            "file": job.path.relative_to(self.root).as_posix(),
        }
        return Clip(job.key, wave, self.sample_rate, attributes)

    def _windows(self, path: Path, group: str) -> list[FileJob]:
        relative = path.relative_to(self.root).as_posix()
        # The size and time of the file, and what is written of it, are part of the key: what has
        # changed is another clip.
        state = path.stat()
        mark = hashlib.sha256(f"{relative} {state.st_size} {state.st_mtime_ns}".encode())
        with suppress(Refused):  # make() says why
            if fields := self.captions.written(path):
                mark.update(json.dumps(fields, sort_keys=True, default=str).encode())
        name = re.sub(r"[^A-Za-z0-9]+", "-", path.stem).strip("-")[:40] or "clip"
        key = f"{name}-{mark.hexdigest()[:10]}"
        if self.seconds is None:
            return [FileJob(key, path, group)]
        try:
            info = soundfile.info(path)
            plausible(info.frames, state.st_size)
            total = info.duration
        except (soundfile.SoundFileError, OSError, Refused):
            return [FileJob(key, path, group)]  # make() says what is wrong with it
        count = max(1, int(total / self.seconds + 1e-6))
        if total - count * self.seconds >= self.shortest:
            count += 1
        return [
            FileJob(f"{key}-{i:04d}", path, group, i * self.seconds, self.seconds)
            for i in range(count)
        ]

    def _read(self, job: FileJob) -> tuple[np.ndarray, float, dict[str, str]]:
        """The (C, L) audio of a job, the seconds of its whole file and the file's own tags."""
        kind = job.path.suffix[1:].lower()
        if kind in UNREADABLE:
            raise Refused(f"{kind} is not readable here: convert it to flac or wav")
        if job.path.stat().st_size == 0:
            raise Refused("empty file")
        try:
            with soundfile.SoundFile(job.path) as sound:
                plausible(sound.frames, job.path.stat().st_size)
                total = sound.frames / sound.samplerate
                if total < self.shortest:
                    raise Refused(f"shorter than {self.shortest} s (data.shortest)")
                start = round(job.start * self.sample_rate)
                length = converted(sound.frames, sound.samplerate, self.sample_rate) - start
                if job.seconds is not None:
                    length = min(length, round(job.seconds * self.sample_rate))
                elif total > LONGEST:
                    raise Refused(f"longer than {LONGEST} s: cut it into clips by data.seconds=")
                wave = stretch(sound, start, length, self.sample_rate, self.channels)
                return wave, total, sound.copy_metadata()
        except (soundfile.SoundFileError, OSError) as error:
            raise Refused(f"not readable as audio ({str(error).split(': ', 1)[-1]})") from None


def audio_files(root: Path) -> list[Path]:
    """Every audio file below ``root`` in order, hidden ones left out; UserError without any."""
    found = []
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        kind = path.suffix[1:].lower()
        if not hidden and kind in READABLE | UNREADABLE and path.is_file():
            found.append(path)
    if not found:
        raise UserError(f"no audio file below data.root={root} (wav, flac, ogg, mp3 …)")
    return found
