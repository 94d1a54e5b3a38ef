"""Tars made elsewhere (plain WebDataset): an index for them, so that they can be streamed."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import soundfile

from glissando.datasets.audio import facts_of
from glissando.datasets.base import Refused
from glissando.datasets.captions import short
from glissando.datasets.remote import Access
from glissando.datasets.samples import audio_name, described
from glissando.datasets.shards import FORMAT, fingerprint
from glissando.datasets.stores import Store, store, window
from glissando.errors import UserError

#: Bytes of a tar read at once while it is indexed: heads and captions lie between the audio.
AHEAD = 2**20


def index_of(place: str | Path, access: Access | None = None) -> dict[str, Any]:
    """The index of a WebDataset tar at a path or URL, as ``datasets/shards.py`` has it.

    Members named ``key.extension`` (the key ends at the first dot of the file's name) make one
    sample; those with audio are listed, others and unreadable ones are ``refused``, each with its
    reason. A sample whose json has a ``group`` has it here too. Nothing is extracted.

    Raises UserError for a file that is no tar, or a torn one, and for members that are no plain
    files or whose names leave the archive; Lost where a server does not answer.
    """
    tar = store(place, access)
    try:
        size = tar.size()
        members = _members(place, tar, size)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise UserError(f"{place} is not a whole uncompressed tar ({error})") from None
    samples, refused = [], []
    for key, places in members.items():
        try:
            samples.append({"key": key, "members": places, **_facts(tar, places, size)})
        except (Refused, soundfile.SoundFileError, ValueError) as error:
            refused.append([key, str(error)])
    index: dict[str, Any] = {"format": FORMAT, "bytes": size, "tar": str(place)}
    index |= {"refused": refused, "samples": samples}
    return index | {"fingerprint": fingerprint({"samples": samples})}


def _members(place: str | Path, tar: Store, size: int) -> dict[str, dict[str, list[int]]]:
    members: dict[str, dict[str, list[int]]] = {}
    with tarfile.open(fileobj=window(tar, 0, size, AHEAD), mode="r:") as archive:
        for info in archive:
            _check(place, info)
            if info.isfile():
                key, name = _split(info.name)
                members.setdefault(key, {})[name] = [info.offset_data, info.size]
        if archive.offset >= size:
            raise tarfile.ReadError("it has no end")
    return members


def _check(place: str | Path, info: tarfile.TarInfo) -> None:
    name = PurePosixPath(info.name)
    if name.is_absolute() or ".." in name.parts:
        raise UserError(f"{place} has a member that leaves the archive: {info.name!r}; not used")
    if not (info.isfile() or info.isdir()) or info.issparse():
        raise UserError(
            f"{place} has a link, a device or a sparse file among its members: {info.name!r}; "
            "not used"
        )


def _split(name: str) -> tuple[str, str]:
    """``a/b.c.flac`` -> (``a/b``, ``c.flac``), WebDataset's rule."""
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return folder + slash + stem, extension.lower()


def _facts(tar: Store, places: Mapping[str, list[int]], total: int) -> dict[str, Any]:
    for offset, size in places.values():
        if offset + size > total:
            raise Refused("the tar ends within it")
    offset, size = places[audio_name({"members": places})]
    facts: dict[str, Any] = facts_of(window(tar, offset, size), size)
    texts = {
        name: tar.read(*places[name])
        for name in ("json", "txt")
        if name in places and short(places[name][1], name)
    }
    group = described(texts).get("group")
    return facts if group is None else {**facts, "group": str(group)}
