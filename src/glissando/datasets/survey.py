"""What is in a folder of audio or in shards, clip by clip: heard whole, changed in nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from glissando.datasets.audio import plausible
from glissando.datasets.base import Refused
from glissando.datasets.captions import CAPTION_COLUMNS, Captions, captioned
from glissando.datasets.folder import UNREADABLE, audio_files
from glissando.datasets.foreign import index_of
from glissando.datasets.places import Place, places, sources
from glissando.datasets.processes import mapped
from glissando.datasets.remote import PIECE, Access
from glissando.datasets.samples import audio_name, written
from glissando.datasets.shards import DATASET, Shard
from glissando.datasets.stores import is_remote, window
from glissando.errors import UserError
from glissando.progress import ERR, Bar

#: Samples (of a channel) heard at once.
BLOCK = 2**18
#: Samples of a stretch that is silent or not.
STRETCH = 2048
#: Three samples in a row that are at least this loud are clipped: a peak alone may be normalized.
FULL = 32766 / 32768


@dataclass(frozen=True)
class Heard:
    """One clip: what its audio is like, and its caption; or ``error``, why there is none.

    ``level`` is the root mean square and ``peak`` the largest sample, in dB of full scale (-inf
    for silence); ``silent`` the fraction of its stretches of 2,048 samples that stay below the
    threshold; ``clipped`` the fraction of samples within three or more at full scale; ``mark`` is
    equal for equal 16-bit audio, whatever the format of the file.
    """

    name: str
    error: str | None = None
    seconds: float = 0.0
    rate: int = 0
    channels: int = 0
    level: float = 0.0
    peak: float = 0.0
    silent: float = 0.0
    clipped: float = 0.0
    mark: str = ""
    caption: str | None = None


@dataclass(frozen=True)
class Survey:
    """How to look: the ``threshold`` of silence in dB of full scale, a template for captions."""

    threshold: float = -60.0
    template: str | None = None
    access: Access | None = None

    def of(self, root: str, workers: int = 1, progress: bool = True) -> list[Heard]:
        """Every clip at ``root``, a folder of audio or what ``data=shards data.root=`` names.

        Raises UserError where there is neither, Lost where a server does not answer.
        """
        work: Callable[[Any], list[Heard]]
        if holds_tars(root):
            jobs: list[Any] = [
                place
                for number, source in enumerate(sources(root))
                for place in places(source, number, self.access or Access())
            ]
            if any(place.coded for place in jobs):
                raise UserError(f"data.root={root} holds latents, to which nobody can listen")
            work, what = self._tar, "tars"
        else:
            folder = Path(root).expanduser()
            if not folder.is_dir():
                raise UserError(f"data.root={root} is not a folder")
            jobs = audio_files(folder.resolve())
            work, what = partial(self._file, Captions(folder.resolve(), self.template)), "files"
        heard: list[Heard] = []
        with (
            mapped(work, jobs, workers) as made,
            Bar(f"listening to {len(jobs)} {what}", len(jobs), shown=progress, console=ERR) as bar,
        ):
            for some in made:
                heard += some
                bar.advance()
        return heard

    def _file(self, captions: Captions, path: Path) -> list[Heard]:
        name = path.relative_to(captions.root).as_posix()
        if (kind := path.suffix[1:].lower()) in UNREADABLE:
            return [Heard(name, f"{kind} is not readable here: convert it to flac or wav")]
        try:
            caption = None if captions.is_bare(path) else captions.fields(path)["caption"]
            return [Heard(name, caption=caption, **self._listen(path, path.stat().st_size))]
        except (Refused, soundfile.SoundFileError, OSError) as error:
            return [Heard(name, _why(error))]

    def _tar(self, place: Place) -> list[Heard]:
        try:
            shard = _shard(place, self.access)
        except UserError as error:
            return [Heard(place.tar, str(error))]
        heard = [Heard(f"{place.tar}: {key}", reason) for key, reason in shard.index["refused"]]
        return heard + [self._sample(shard, sample) for sample in shard.samples]

    def _sample(self, shard: Shard, sample: Mapping[str, Any]) -> Heard:
        name = f"{shard.tar}: {sample['key']}"
        try:
            attributes = written(shard, sample)
            bare = self.template is None and not any(attributes.get(c) for c in CAPTION_COLUMNS)
            caption = None if bare else captioned(attributes, self.template, sample["key"])
            offset, size = sample["members"][audio_name(sample)]
            return Heard(name, caption=caption, **self._listen(_all_of(shard, offset, size), size))
        except (Refused, soundfile.SoundFileError, ValueError, OSError) as error:
            return Heard(name, _why(error))

    def _listen(self, file: Any, size: int) -> dict[str, Any]:
        """The facts of one encoded file. Raises Refused where it ends before its header says."""
        floor = 10 ** (self.threshold / 20)
        frames = quiet = stretches = clipped = 0
        squares, peak = 0.0, 0.0
        content = hashlib.sha256()
        with soundfile.SoundFile(file) as sound:
            plausible(sound.frames, size)
            rate, channels, claimed = sound.samplerate, sound.channels, sound.frames
            while len(wave := sound.read(BLOCK, dtype="float32", always_2d=True)):
                if not np.isfinite(wave).all():
                    raise Refused("NaN or infinity in the audio")
                loud = np.abs(wave)
                peak = max(peak, float(loud.max()))
                squares += float(np.square(wave, dtype=np.float64).sum())
                tops = np.maximum.reduceat(loud.max(1), np.arange(0, len(loud), STRETCH))
                quiet, stretches = quiet + int((tops < floor).sum()), stretches + len(tops)
                clipped += _clipped(loud >= FULL)
                steps = np.clip(np.round(wave * 32768), -32768, 32767).astype("<i2")
                content.update(steps.tobytes())
                frames += len(wave)
        if frames < claimed - 0.05 * rate:  # lossy formats only estimate their length
            raise Refused("truncated: it ends before its header says")
        with np.errstate(divide="ignore"):
            level = 10 * np.log10(squares / (frames * channels))
            return {
                "seconds": frames / rate, "rate": rate, "channels": channels,
                "level": float(level), "peak": float(20 * np.log10(peak)),
                "silent": quiet / stretches, "clipped": clipped / (frames * channels),
                "mark": f"{rate} {channels} {content.hexdigest()}",
            }  # fmt: skip


def holds_tars(root: str) -> bool:
    """Does ``root`` name shards, and not a folder of audio?"""
    if is_remote(root) or "::" in root or root.endswith(".tar"):
        return True
    folder = Path(root).expanduser()
    if not folder.is_dir():
        return any(sign in root for sign in "*{")
    return (folder / DATASET).is_file() or next(folder.glob("**/*.tar"), None) is not None


def _shard(place: Place, access: Access | None) -> Shard:
    """The tar of a place with an index read anew: nothing is written beside it."""
    shard = Shard(Path(place.tar), access)
    shard.index = index_of(place.tar, access)  # takes the place of the cached property
    return shard


def _all_of(shard: Shard, offset: int, size: int) -> BinaryIO:
    """A member to be read from end to end: in large pieces, as a server has it most quickly."""
    return window(shard, offset, size, min(size, PIECE) or 1)


def _clipped(full: np.ndarray) -> int:
    """How many of (L, C) samples are one of three or more at full scale in a row."""
    three = full[2:] & full[1:-1] & full[:-2]
    within = np.zeros_like(full)
    for late in range(3):
        within[late : len(full) - 2 + late] |= three
    return int(within.sum())


def _why(error: Exception) -> str:
    return " ".join(str(error).split(": ", 1)[-1].split())
