"""One's own music: every audio file below a folder, with the captions found beside it."""

from __future__ import annotations

import hashlib
import math
import re
from bisect import bisect
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from glissando.datasets.base import SPLITS, Clip, Refused
from glissando.datasets.captions import Captions
from glissando.errors import UserError
from glissando.progress import note

READABLE = {"wav", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "aifc", "au", "caf", "w64"}
#: Audio that libsndfile does not read: refused by name instead of being passed over.
UNREADABLE = {"m4a", "aac", "wma", "mp4", "ape", "wv", "dsf"}
#: Seconds (at least) read on either side of a window, so that resampling sees no edge there.
CONTEXT = 0.05


@dataclass(frozen=True)
class FileJob:
    """One clip of a folder: ``seconds`` from ``start`` of ``path`` (None: the whole file)."""

    key: str
    path: Path
    group: str
    start: float = 0.0
    seconds: float | None = None


class Folder:
    """A source of the audio files below ``root``: WAV, FLAC, Ogg, Opus, MP3, AIFF ….

    Captions and other facts, the first that there is: ``song.json`` beside ``song.wav`` (an
    object; ``caption`` and any other fields), ``song.txt`` (the caption), the row of the file in
    ``captions.csv`` or ``metadata.csv`` at the root (columns ``file`` and ``caption``, others
    become fields), the file's name without its ending. Hidden files and folders are passed over.

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
        self.splits = dict(splits or {"train": 0.9, "valid": 0.05, "test": 0.05})
        shares = self.splits.values()
        if set(self.splits) - set(SPLITS) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise UserError(f"data.splits must give shares of {SPLITS} that sum to 1")
        self.seconds, self.sample_rate, self.channels = seconds, sample_rate, channels
        self.seed, self.caption, self.shortest = seed, caption, shortest
        self.captions = Captions(self.root, caption)

    def settings(self) -> dict[str, Any]:
        """Every argument; the files themselves are the jobs' matter."""
        names = ("seconds", "sample_rate", "channels", "seed", "splits", "caption", "shortest")
        return {"root": str(self.root), **{name: getattr(self, name) for name in names}}

    def jobs(self) -> Mapping[str, list[FileJob]]:
        """The clips of each split, sorted by path; a damaged file has one job, which is refused."""
        files = self._files()
        groups = {path: self.captions.group(path) for path in files}
        dealt = self._dealt(set(groups.values()))
        jobs: dict[str, list[FileJob]] = {split: [] for split in SPLITS}
        for path, group in groups.items():
            jobs[dealt[group]] += self._windows(path, group)
        if bare := [path for path in files if self.captions.is_bare(path)]:
            note(
                f"{len(bare)} of {len(files)} files have no caption and take their file's name, "
                f"e.g. {bare[0].stem!r}"
            )
        return jobs

    def make(self, job: FileJob) -> Clip:
        """Read, resample and mix one clip. Raises Refused with the reason where that fails."""
        wave, total = self._read(job)
        attributes = self.captions.fields(job.path)  # before ours: a file cannot misstate these
        attributes |= {
            "seconds_total": total,
            "seconds_start": job.start,
            "group": job.group,
            "file": job.path.relative_to(self.root).as_posix(),
        }
        return Clip(job.key, wave, self.sample_rate, attributes)

    def _files(self) -> list[Path]:
        found = []
        for path in sorted(self.root.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(self.root).parts)
            kind = path.suffix[1:].lower()
            if not hidden and kind in READABLE | UNREADABLE and path.is_file():
                found.append(path)
        if not found:
            raise UserError(f"no audio file below data.root={self.root} (wav, flac, ogg, mp3 …)")
        return found

    def _dealt(self, groups: set[str]) -> dict[str, str]:
        """Group -> split, by hash; see ``splits`` above."""

        def place(group: str) -> float:
            return (
                int(hashlib.sha256(f"{self.seed} {group}".encode()).hexdigest()[:12], 16) / 16**12
            )

        ordered = sorted(groups, key=lambda group: (place(group), group))
        ends = list(accumulate(self.splits.values()))
        names = list(self.splits)
        dealt = {g: names[min(bisect(ends, place(g)), len(names) - 1)] for g in ordered}
        for split, share in self.splits.items():
            count = Counter(dealt.values())
            largest = max(count, key=count.__getitem__)
            if share > 0 and not count[split] and len(groups) >= 3 and count[largest] > 1:
                dealt[next(group for group in ordered if dealt[group] == largest)] = split
        return dealt

    def _windows(self, path: Path, group: str) -> list[FileJob]:
        relative = path.relative_to(self.root).as_posix()
        # The size and time of the file are part of the key: a changed file is another clip.
        state = path.stat()
        mark = hashlib.sha256(f"{relative} {state.st_size} {state.st_mtime_ns}".encode())
        name = re.sub(r"[^A-Za-z0-9]+", "-", path.stem).strip("-")[:40] or "clip"
        key = f"{name}-{mark.hexdigest()[:10]}"
        if self.seconds is None:
            return [FileJob(key, path, group)]
        try:
            total = soundfile.info(path).duration
        except (soundfile.SoundFileError, OSError):
            return [FileJob(key, path, group)]  # make() says what is wrong with it
        count = max(1, int(total / self.seconds + 1e-6))
        if total - count * self.seconds >= self.shortest:
            count += 1
        return [
            FileJob(f"{key}-{i:04d}", path, group, i * self.seconds, self.seconds)
            for i in range(count)
        ]

    def _read(self, job: FileJob) -> tuple[np.ndarray, float]:
        """The (C, L) audio of a job and the seconds of its whole file."""
        kind = job.path.suffix[1:].lower()
        if kind in UNREADABLE:
            raise Refused(f"{kind} is not readable here: convert it to flac or wav")
        if job.path.stat().st_size == 0:
            raise Refused("empty file")
        try:
            with soundfile.SoundFile(job.path) as sound:
                rate, frames = sound.samplerate, sound.frames
                total = frames / rate
                if total < self.shortest:
                    raise Refused(f"shorter than {self.shortest} s (data.shortest)")
                # Begin where a sample of the file and one of the result fall together: at a
                # multiple of 1/grid seconds. Elsewhere windows would be shifted by part of one.
                grid = math.gcd(rate, self.sample_rate)
                begin = max(0, math.floor((job.start - CONTEXT) * grid))
                first = begin * (rate // grid)
                wanted = frames - first
                if job.seconds is not None:
                    end = round((job.start + job.seconds + CONTEXT) * rate)
                    wanted = min(wanted, end - first)
                sound.seek(first)
                wave = sound.read(wanted, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError) as error:
            raise Refused(f"not readable as audio ({str(error).split(': ', 1)[-1]})") from None
        if len(wave) < wanted - CONTEXT * rate:  # lossy formats only estimate their length
            raise Refused("truncated: it ends before its header says")
        wave = soxr.resample(self._mixed(wave), rate, self.sample_rate, "VHQ")
        start = round(job.start * self.sample_rate) - begin * (self.sample_rate // grid)
        length = None if job.seconds is None else round(job.seconds * self.sample_rate)
        wave = wave[start:][:length]
        return np.ascontiguousarray(wave.T, dtype=np.float32), total

    def _mixed(self, wave: np.ndarray) -> np.ndarray:
        """(L, any) -> (L, channels): the mean to mono, mono repeated, else the first channels."""
        there = wave.shape[1]
        if there == self.channels:
            return wave
        if self.channels == 1:
            return wave.mean(axis=1, keepdims=True)
        if there == 1:
            return np.repeat(wave, self.channels, axis=1)
        if there > self.channels:
            return wave[:, : self.channels]
        raise Refused(f"{there} channels where data.channels={self.channels}")
