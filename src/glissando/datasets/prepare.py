"""A source made into a dataset folder: in parallel, resumable, and with a true report."""

from __future__ import annotations

import errno
import json
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from glissando.datasets.audio import encode_flac
from glissando.datasets.base import SPLITS, Job, Refused, Source
from glissando.datasets.dataset_folder import claimed, finish, settle
from glissando.datasets.processes import mapped
from glissando.datasets.report import Report, reported
from glissando.datasets.shards import Shard, fingerprint, is_whole, json_of, whole_shard
from glissando.errors import UserError
from glissando.progress import ERR, Bar, note


@dataclass(frozen=True)
class Made:
    """A clip as it goes into the tar, or the reason why there is none."""

    key: str
    members: dict[str, bytes] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    refused: str | None = None


def make(source: Source, job: Job) -> Made:
    """Make and encode one clip; any fault of the clip becomes the reason of its refusal.

    Faults of the machine (memory, disk full) are raised.
    """
    try:
        clip = source.make(job)
        if clip.key != job.key or not clip.key or set(clip.key) & set("./\\ \n\t\0"):
            raise Refused(f"the clip's key {clip.key!r} is not its job's, or has a dot or blank")
        members = {
            "flac": encode_flac(clip.wave, clip.sample_rate),
            "json": json_of(clip.attributes),
        }
    except Refused as refusal:
        return Made(job.key, refused=str(refusal))
    except MemoryError:
        raise
    except Exception as error:  # whatever a decoder or a synthesizer throws at one bad file
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return Made(job.key, refused=f"{type(error).__name__}: {error}")
    channels, frames = clip.wave.shape
    return Made(
        job.key, members, {"frames": frames, "rate": clip.sample_rate, "channels": channels}
    )


def prepare(
    source: Source,
    root: Path | str,
    workers: int = 1,
    samples_per_shard: int = 100,
    progress: bool = True,
    overwrite: bool = False,
) -> Report:
    """Make every clip of ``source`` and write the dataset folder ``root``.

    A shard already there, whole and made of the same jobs with the same settings, is kept: an
    interrupted run goes on, and a folder with new songs costs the new songs. The files are the
    same to the byte whatever ``workers`` is. ``workers`` processes are started by "spawn", so a
    script that calls this must be importable (``if __name__ == "__main__":``); one worker is
    this process itself. Another process that is preparing the same root is waited for.

    Raises UserError when ``root`` holds a dataset with other settings (unless ``overwrite``),
    when no clip could be made, when the clips differ in sample rate or channels, and when the
    disk is full. Ctrl-C leaves the whole shards and nothing else.
    """
    if samples_per_shard < 1:
        raise UserError(f"prepare.samples_per_shard must be at least 1, not {samples_per_shard}")
    root = Path(root)
    asked = {
        "source": source.name,
        "settings": json.loads(json.dumps(dict(source.settings()))),
        "samples_per_shard": samples_per_shard,
    }
    with claimed(root):
        settle(root, asked, overwrite)
        plan = _plan(source, root, fingerprint(asked), samples_per_shard)
        todo = [shard for shard in plan if not is_whole(shard.path, shard.mark)]
        if todo:
            _write(source, todo, root, workers, progress)
        report = _finish(root, asked, plan)
    if progress:
        note(str(report))
    return report


@dataclass(frozen=True)
class _Planned:
    split: str
    path: Path
    mark: str  # the shard's fingerprint: the dataset's settings and these very jobs
    jobs: list[Job]


def _plan(source: Source, root: Path, mark: str, size: int) -> list[_Planned]:
    jobs = source.jobs()
    if unknown := set(jobs) - set(SPLITS):
        raise ValueError(f"source {source.name!r} has unknown splits {sorted(unknown)}")
    plan = []
    keys: set[str] = set()
    for split in SPLITS:
        chosen = list(jobs.get(split, ()))
        for number, first in enumerate(range(0, len(chosen), size)):
            part = chosen[first : first + size]
            names = [job.key for job in part]
            if len(keys | set(names)) != len(keys) + len(names):
                raise ValueError(f"source {source.name!r} gives one key to two clips")
            keys |= set(names)
            path = root / split / f"{number:06d}.tar"
            plan.append(_Planned(split, path, fingerprint({"of": mark, "keys": names}), part))
    return plan


def _write(source: Source, todo: list[_Planned], root: Path, workers: int, shown: bool) -> None:
    jobs = [job for shard in todo for job in shard.jobs]
    with ExitStack() as stack:
        made = stack.enter_context(mapped(partial(make, source), jobs, workers))
        bar = Bar(f"preparing {root}", len(jobs), shown=shown, console=ERR)
        stack.enter_context(bar)
        for shard in todo:
            with whole_shard(shard.path, shard.mark) as writer:
                for _ in shard.jobs:
                    clip = next(made)
                    if clip.refused is None:
                        writer.add(clip.key, clip.members, **clip.facts)
                    else:
                        writer.refuse(clip.key, clip.refused)
                    bar.advance()


def _finish(root: Path, asked: dict[str, Any], plan: list[_Planned]) -> Report:
    shards = [(planned.split, Shard(planned.path)) for planned in plan]
    report = reported(root, [shard for _, shard in shards])
    samples = [sample for _, shard in shards for sample in shard.samples]
    forms = Counter((s["rate"], s["channels"]) for s in samples)
    if len(forms) > 1:
        raise UserError(
            f"{root}: clips differ in (sample rate, channels): {dict(forms)}; "
            "set data.sample_rate= and data.channels="
        )
    (rate, channels), _ = forms.most_common(1)[0]
    finish(root, {**asked, "kind": "audio", "sample_rate": rate, "channels": channels}, shards)
    return report
