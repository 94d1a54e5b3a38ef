"""The dataset folder as a whole: who is writing it, with which settings, and when it is done."""

from __future__ import annotations

import errno
import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glissando.datasets.base import SPLITS
from glissando.datasets.shards import (
    DATASET,
    FORMAT,
    Shard,
    fingerprint,
    index_path,
    read_dataset,
    write_json,
)
from glissando.errors import UserError
from glissando.progress import note

STARTED = "dataset.started.json"
REFUSED = "refused.csv"
"""The clips that are not in the dataset, each with the reason."""
WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def claimed(root: Path) -> Iterator[None]:
    """Be the only process that writes to ``root``; a second one waits (every rank may call).

    The claim ends with the process that holds it, killed or not. A full disk becomes a UserError.
    """
    with disk_faults(root):
        root.mkdir(parents=True, exist_ok=True)
        with (root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                note(f"another process is writing {root}: waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextmanager
def disk_faults(root: Path) -> Iterator[None]:
    """A disk that is full or may not be written becomes one line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in WRITING:
            raise
        raise UserError(
            f"cannot write {error.filename or root}: {error.strerror}; what is whole is kept, so "
            "put that right and run it again, or choose another folder"
        ) from error


def settle(root: Path, asked: dict[str, Any], overwrite: bool) -> None:
    """Make sure that what lies in ``root`` was asked for with these very settings.

    Otherwise UserError, or with ``overwrite`` the dataset's own files are removed (no others).
    Leaves a note of the settings, so that an interrupted run is held to them too.
    """
    old = _old(root, overwrite)
    if old is not None:
        differ = list(_differences(old, asked))
        if differ and not overwrite:
            raise _other(root, differ)
        if differ:
            remove(root)
    write_json(root / STARTED, asked)


def is_prepared(
    root: Path | str,
    name: str,
    settings: dict[str, Any],
    access: Mapping[str, Any] | None = None,
) -> bool:
    """Is a whole dataset of the source ``name`` with ``settings`` there? (quick; reads no shard)

    Not where it is to be reached by another ``access``. UserError if there is one made with other
    settings.
    """
    root = Path(root)
    if not (root / DATASET).is_file():
        return False
    there = read_dataset(root)
    asked = {**there, "source": name, "settings": json.loads(json.dumps(settings))}
    if differ := list(_differences(there, asked)):
        raise _other(root, differ)
    return there.get("access") == access


def remove(root: Path) -> None:
    """Remove the files of a dataset from ``root``, and nothing that others put there."""
    for name in (DATASET, STARTED, REFUSED):
        (root / name).unlink(missing_ok=True)
    for split in SPLITS:
        _remove_shards(root / split, kept=set())


def finish(
    root: Path,
    facts: dict[str, Any],
    shards: Sequence[tuple[str, Shard]],
    access: Mapping[str, Any] | None = None,
) -> None:
    """Write ``dataset.json``: ``facts``, the fingerprint and the sums of each split's shards.

    Shards beyond those given (a longer, older dataset) are removed. ``facts`` has ``source``,
    ``settings``, ``samples_per_shard``, ``sample_rate``. ``access`` is no part of the fingerprint.
    """
    splits = {}
    for split in SPLITS:
        mine = [shard for name, shard in shards if name == split]
        samples = [sample for shard in mine for sample in shard.samples]
        seconds = sum(sample["frames"] / sample["rate"] for sample in samples)
        splits[split] = {
            "shards": len(mine),
            "samples": len(samples),
            "seconds": round(seconds, 3),
            "counts": [len(shard.samples) for shard in mine],
        }
        if "weights" in facts:
            splits[split]["sources"] = [shard.index["source"] for shard in mine]
        _remove_shards(root / split, {shard.path for shard in mine})
    marks = [shard.index["fingerprint"] for _, shard in shards]
    mark = fingerprint({"facts": facts, "shards": marks})
    facts = {"format": FORMAT, **facts, "fingerprint": mark, "splits": splits}
    write_json(root / DATASET, facts if access is None else {**facts, "access": access})
    (root / STARTED).unlink(missing_ok=True)


def _remove_shards(folder: Path, kept: set[Path]) -> None:
    """Remove the shards of a folder, with a tar or without, but for ``kept``."""
    there = {*folder.glob("[0-9]" * 6 + ".tar")}
    there |= {
        path.with_name(path.name.replace(".index.json", ".tar"))
        for path in folder.glob("[0-9]" * 6 + ".index.json")
    }
    for tar in there - kept:
        index_path(tar).unlink(missing_ok=True)
        tar.unlink(missing_ok=True)


def _old(root: Path, overwrite: bool) -> dict[str, Any] | None:
    """What lies in ``root``; with ``overwrite`` what cannot be read is like nothing asked for."""
    if (root / DATASET).is_file():
        try:
            return read_dataset(root)
        except UserError:
            if not overwrite:
                raise
            return {}
    if (root / STARTED).is_file():
        return json.loads((root / STARTED).read_bytes())
    return None


def _other(root: Path, differ: Sequence[str]) -> UserError:
    return UserError(
        f"{root} holds a dataset made with other settings: {', '.join(differ)} (there, asked): "
        "take those, use another folder, or overwrite=true"
    )


def _differences(old: dict[str, Any], asked: dict[str, Any]) -> Iterator[str]:
    missing = "nothing"
    if old.get("source") != asked["source"]:
        yield f"data={old.get('source')}, {asked['source']}"
        return  # settings of another source cannot be compared
    if old.get("samples_per_shard") != asked["samples_per_shard"]:
        there = old.get("samples_per_shard")
        yield f"prepare.samples_per_shard={there}, {asked['samples_per_shard']}"
    before, now = old.get("settings", {}), asked["settings"]
    for key in sorted(set(before) | set(now)):
        if before.get(key, missing) != now.get(key, missing):
            yield f"data.{key}={before.get(key, missing)}, {now.get(key, missing)}"
