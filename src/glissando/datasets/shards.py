"""WebDataset tars on disk: written whole or not at all, and read by byte offset.

A dataset folder is ``<root>/dataset.json``, ``<root>/<split>/000000.tar`` and, beside each tar,
``000000.index.json``::

    {"format": 1, "bytes": size of the tar, "fingerprint": ..., "refused": [[key, reason], ...],
     "samples": [{"key": ..., "members": {"flac": [offset, size], "json": [offset, size]},
                  "frames": L, "rate": Hz, "channels": C}, ...]}

Offsets count bytes from the beginning of the tar to the member's data, so that one sample, or
part of one, is a range read. A shard is whole when its index is there and the tar has the size
the index says: the tar is renamed into place first, the index after it.

A dataset may also refer to tars that lie elsewhere (``datasets/tars.py``): then there are indexes
alone, each with ``"tar"``, a path or URL, and ``dataset.json`` has ``"access"``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from glissando.datasets.remote import Access, Lost
from glissando.datasets.stores import LocalFile, Store, is_remote, store
from glissando.errors import UserError
from glissando.files import sync_folder

FORMAT = 1
DATASET = "dataset.json"
#: Bytes between members that are cheaper to read than a second read: heads and padding of a tar.
NEAR = 8192


def fingerprint(facts: Mapping[str, Any]) -> str:
    """A name for ``facts`` (JSON values): equal facts, equal name, whatever the order of keys."""
    text = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def whole_file(path: Path) -> Iterator[io.BufferedWriter]:
    """Write ``path`` under a temporary name, then fsync and rename; removed if anything fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON, whole or not at all."""
    with whole_file(path) as file:
        file.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def json_of(attributes: Mapping[str, Any]) -> bytes:
    """The attributes of a clip as the member ``json``; ValueError for NaN or infinity."""
    return json.dumps(attributes, ensure_ascii=False, allow_nan=False).encode()


def index_path(tar: Path) -> Path:
    """Where the index of ``tar`` lies: ``000000.tar`` -> ``000000.index.json``."""
    return tar.with_suffix(".index.json")


class Shard:
    """One tar and its index, opened at the first read; picklable, and safe in forked workers.

    The index may name a tar that is elsewhere (``tar``), on a server too: then there is none
    beside it, and ``access`` says how to ask. ``caption`` is a template for the captions.

    Raises UserError when the index is missing or the tar is not the one it was made for; Lost
    where a server does not answer.
    """

    def __init__(
        self, path: Path | str, access: Access | None = None, caption: str | None = None
    ) -> None:
        self.path, self.access, self.caption = Path(path), access, caption

    @cached_property
    def index(self) -> dict[str, Any]:
        try:
            index = json.loads(index_path(self.path).read_bytes())
            if "tar" not in index:
                self._hold_against(self.path.stat().st_size, index)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.path} has no readable index ({error}): run `glissando prepare` again, with "
                "data=shards for a tar made elsewhere"
            ) from None
        return index

    @cached_property
    def samples(self) -> list[dict[str, Any]]:
        return self.index["samples"]

    @property
    def tar(self) -> str:
        """The path or URL of the tar."""
        return self.index.get("tar", str(self.path))

    @cached_property
    def _file(self) -> Store:
        file = store(self.tar, self.access)
        if "tar" in self.index:
            try:
                self._hold_against(file.size(), self.index)
            except FileNotFoundError as error:
                raise Lost(f"{self.tar}: no such file; see data.root=") from error
        return file

    def _hold_against(self, size: int, index: Mapping[str, Any]) -> None:
        if index["bytes"] != size:
            where = index.get("tar", self.path)
            raise UserError(
                f"{where} has {size} bytes and its index says {index['bytes']}: run "
                "`glissando prepare` again (a tar of our own: delete it and its index first)"
            )

    @property
    def ahead(self) -> int:
        """Bytes worth reading at once where only some are asked for."""
        return self._file.ahead

    def read(self, offset: int, size: int) -> bytearray:
        """``size`` bytes from ``offset``; no shared file position, so workers cannot disturb it.

        ValueError where that is not within the tar (a wrong index must not fill the memory)."""
        if not 0 <= offset <= offset + size <= self.index["bytes"]:
            raise ValueError(f"bytes {offset} to {offset + size} are not within {self.tar}")
        return self._file.read(offset, size)

    def expect(self, sample: Mapping[str, Any] | None = None) -> None:
        """Have the disk begin to read a sample that is wanted whole soon, or (None) all of the
        tar; other stores are waited for."""
        if not is_remote(self.tar) and isinstance(self._file, LocalFile):
            places = sample["members"].values() if sample else [(0, self.index["bytes"])]
            begin, end, _ = _stretch(places)
            self._file.expect(begin, end - begin)

    def member(self, sample: Mapping[str, Any], name: str) -> bytearray:
        """The whole of one member of a sample of this shard."""
        return self.read(*sample["members"][name])

    def members(self, sample: Mapping[str, Any], names: Set[str]) -> dict[str, memoryview]:
        """Those of the members ``names`` that a sample has, whole; neighbours by one read."""
        places = sample["members"]
        if not names >= places.keys():
            places = {name: place for name, place in places.items() if name in names}
        if not places:
            return {}
        begin, end, size = _stretch(places.values())
        if end - begin > size + NEAR:
            return {name: memoryview(self.read(*place)) for name, place in places.items()}
        content = memoryview(self.read(begin, end - begin))
        return {name: content[at - begin : at - begin + n] for name, (at, n) in places.items()}

    def __getstate__(self) -> dict[str, Any]:
        # An open file does not travel to another process.
        return {"path": self.path, "access": self.access, "caption": self.caption}


def _stretch(places: Iterable[Sequence[int]]) -> tuple[int, int, int]:
    """Where the first of some members begins and the last ends, and the bytes that are theirs."""
    begin, end, own = sys.maxsize, 0, 0
    for offset, size in places:  # a loop is twice as fast as min, max and sum
        begin = offset if offset < begin else begin
        end = offset + size if offset + size > end else end
        own += size
    return (begin, end, own) if own else (0, 0, 0)


def is_whole(path: Path, mark: str) -> bool:
    """Is there a whole shard at ``path`` that was made for the fingerprint ``mark``?"""
    try:
        return Shard(path).index.get("fingerprint") == mark
    except UserError:
        return False


class ShardWriter:
    """Collects samples into a tar; ``with whole_shard(path, mark) as writer: writer.add(...)``."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self.samples: list[dict[str, Any]] = []
        self.refused: list[tuple[str, str]] = []
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT)  # noqa: SIM115

    def add(self, key: str, members: Mapping[str, bytes], **facts: Any) -> None:
        """Add one sample; ``facts`` (frames, rate, channels) go to the index."""
        places = {}
        for name, content in members.items():
            info = tarfile.TarInfo(f"{key}.{name}")  # mtime, uid and gid are 0: equal bytes
            info.size = len(content)
            self._tar.addfile(info, io.BytesIO(content))
            padded = -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            places[name] = [self._tar.offset - padded, len(content)]
        self.samples.append({"key": key, "members": places, **facts})

    def refuse(self, key: str, reason: str) -> None:
        """Record a clip that could not be made."""
        self.refused.append((key, reason))

    def close(self) -> None:
        self._tar.close()


@contextmanager
def whole_shard(path: Path, mark: str) -> Iterator[ShardWriter]:
    """A shard at ``path`` with its index, if the block ends well; otherwise nothing is there."""
    index_path(path).unlink(missing_ok=True)  # from here on an older tar is not whole
    with whole_file(path) as file:
        writer = ShardWriter(file)
        yield writer
        writer.close()
    index = {
        "format": FORMAT,
        "bytes": path.stat().st_size,
        "fingerprint": mark,
        "refused": writer.refused,
        "samples": writer.samples,
    }
    write_json(index_path(path), index)


def read_dataset(root: Path | str) -> dict[str, Any]:
    """The facts in ``<root>/dataset.json``; UserError where there is no whole dataset."""
    path = Path(root) / DATASET
    try:
        facts = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"no prepared dataset in {root}: run `glissando prepare` with this data.root, "
            "which also goes on with an interrupted one"
        ) from None
    except ValueError as error:
        raise UserError(
            f"{path} is not readable ({error}): run `glissando prepare` with overwrite=true"
        ) from None
    if facts.get("format") != FORMAT:
        raise UserError(
            f"{path} has format {facts.get('format')} and this version reads {FORMAT}: "
            "run `glissando prepare` again with overwrite=true"
        )
    return facts


def shard_paths(root: Path | str, split: str) -> list[Path]:
    """The shards of one split, by number; empty if the dataset has none."""
    count = read_dataset(root)["splits"].get(split, {}).get("shards", 0)
    return [Path(root) / split / f"{i:06d}.tar" for i in range(count)]


def open_shards(root: Path | str, split: str) -> list[Shard]:
    """The shards of one split, by number, to be read as ``dataset.json`` says."""
    facts = read_dataset(root)
    access = Access(**facts["access"]) if "access" in facts else None
    return [Shard(path, access, facts.get("caption")) for path in shard_paths(root, split)]
