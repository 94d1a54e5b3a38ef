"""Tars made elsewhere (plain WebDataset): an index for them, so that they can be streamed."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import soundfile

from glissando.datasets.audio import AUDIO, facts_of
from glissando.datasets.base import Refused
from glissando.datasets.samples import audio_name
from glissando.datasets.shards import FORMAT, fingerprint, index_path, write_json
from glissando.errors import UserError

#: A json or txt longer than this is no description of a clip.
LONGEST_TEXT = 16 * 2**20


def index_tar(path: Path | str) -> Path:
    """Write ``<tar>.index.json`` beside a WebDataset tar and return its path.

    Members named ``key.extension`` (the key ends at the first dot of the file's name) make one
    sample; those with audio are listed, others and unreadable ones are recorded as refused.
    Nothing is extracted. Raises UserError for a file that is no tar, or a torn one, and for
    members that are no plain files or whose names leave the archive.
    """
    path = Path(path)
    members: dict[str, dict[str, list[int]]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                _check(path, info)
                if info.isfile():
                    key, name = _split(info.name)
                    members.setdefault(key, {})[name] = [info.offset_data, info.size]
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{path} is not a whole uncompressed tar ({error})") from None
    samples, refused = [], []
    size = path.stat().st_size
    with path.open("rb") as file:
        for key, places in members.items():
            try:
                samples.append({"key": key, "members": places, **_facts(file, places, size)})
            except (Refused, soundfile.SoundFileError) as error:
                refused.append([key, str(error)])
    index: dict[str, Any] = {"format": FORMAT, "bytes": size, "refused": refused}
    index |= {"samples": samples, "fingerprint": fingerprint({"samples": samples})}
    write_json(index_path(path), index)
    return index_path(path)


def _check(path: Path, info: tarfile.TarInfo) -> None:
    name = PurePosixPath(info.name)
    if name.is_absolute() or ".." in name.parts:
        raise UserError(f"{path} has a member that leaves the archive: {info.name!r}; not used")
    if not (info.isfile() or info.isdir()):
        raise UserError(f"{path} has a link or device among its members: {info.name!r}; not used")


def _split(name: str) -> tuple[str, str]:
    """``a/b.c.flac`` -> (``a/b``, ``c.flac``), WebDataset's rule."""
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return folder + slash + stem, extension.lower()


def _facts(file: Any, places: dict[str, list[int]], total: int) -> dict[str, int]:
    for name, (offset, size) in places.items():
        if offset + size > total:
            raise Refused("the tar ends within it")
        if name not in AUDIO and name in ("json", "txt") and size > LONGEST_TEXT:
            raise Refused(f"its {name} has {size} bytes")
    offset, size = places[audio_name({"members": places})]
    file.seek(offset)
    return facts_of(file.read(size))
