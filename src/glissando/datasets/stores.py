"""Where the bytes of a tar are: on this machine, on a server, or kept here from there."""

from __future__ import annotations

import fcntl
import hashlib
import io
import logging
import os
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from glissando.datasets.remote import Access, Lost, RemoteFile
from glissando.errors import UserError

log = logging.getLogger(__name__)


class Readable(Protocol):
    """What gives bytes by their offset: a store, or a shard.

    Reading shares no file position, so that forked workers do not disturb each other.
    """

    @property
    def ahead(self) -> int:
        """Bytes worth reading at once where only some are asked for."""
        ...

    def read(self, offset: int, size: int) -> bytearray:
        """At most ``size`` bytes from ``offset``: fewer only where the file ends."""
        ...


class Store(Readable, Protocol):
    """The bytes of one file."""

    def size(self) -> int: ...


class _Window(io.RawIOBase):
    def __init__(self, source: Readable, offset: int, size: int) -> None:
        self._source, self._offset, self._size, self._at = source, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(0, self._size - self._at))
        got = self._source.read(self._offset + self._at, wanted)
        buffer[: len(got)] = got
        self._at += len(got)
        return len(got)


def window(source: Readable, offset: int, size: int, ahead: int | None = None) -> BinaryIO:
    """Part of a source as a file that is read where one seeks to, ``ahead`` bytes at a time (None:
    as the source thinks best)."""
    return cast(BinaryIO, io.BufferedReader(_Window(source, offset, size), ahead or source.ahead))


def is_remote(place: str | Path) -> bool:
    """Is it a URL of a server? (``file://`` is not taken for one)"""
    return "://" in str(place) and not str(place).startswith("file://")


def store(place: str | Path, access: Access | None = None) -> Store:
    """The bytes at a path or URL; UserError for a URL of a kind that nothing here reads."""
    if not is_remote(place):
        return LocalFile(Path(str(place).removeprefix("file://")))
    access = access or Access()
    remote = RemoteFile(str(place), access)
    return remote if access.cache is None else CachedFile(remote, Path(access.cache).expanduser())


class LocalFile:
    """A file on this machine, opened at the first read."""

    ahead = 64 * 1024

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _file(self) -> int:
        return os.open(self.path, os.O_RDONLY)

    def size(self) -> int:
        return self.path.stat().st_size

    def read(self, offset: int, size: int) -> bytearray:
        content = bytearray(size)  # torch warns of what may not be written to
        got = os.preadv(self._file, [content], offset)
        return content if got == size else content[:got]

    def expect(self, offset: int, size: int) -> None:
        """Have the disk begin to read what will be asked for soon."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file, offset, size, os.POSIX_FADV_WILLNEED)

    def __del__(self) -> None:
        if "_file" in self.__dict__:
            os.close(self.__dict__.pop("_file"))


class CachedFile:
    """A remote file that is fetched whole into a folder when it is first read.

    Whoever comes first fetches, others on this machine wait. Where the disk is full, ranges are
    read as if there were no cache.
    """

    def __init__(self, remote: RemoteFile, folder: Path) -> None:
        self.remote = remote
        mark = hashlib.sha256(remote.url.encode()).hexdigest()[:16]
        self.path = folder / f"{mark}-{remote.url.rpartition('/')[2]}"

    @property
    def ahead(self) -> int:
        return self._here.ahead

    def size(self) -> int:
        return self._here.size()

    def read(self, offset: int, size: int) -> bytearray:
        return self._here.read(offset, size)

    @cached_property
    def _here(self) -> Store:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.with_name(f".{self.path.name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not self._is_this():
                    part = self.path.with_name(f".{self.path.name}.part")
                    self.remote.fetch(part)
                    self._mark.write_text(self.remote.version())
                    part.replace(self.path)
            return LocalFile(self.path)
        except OSError as error:
            with suppress(OSError):
                self.path.with_name(f".{self.path.name}.part").unlink()
            log.warning("cannot keep %s in data.cache (%s): read in parts", self.remote.url, error)
            return self.remote

    @property
    def _mark(self) -> Path:
        return self.path.with_name(f".{self.path.name}.version")

    def _is_this(self) -> bool:
        """Is it there, and of the version that the server has? A server that is away is trusted
        to have changed nothing: what is cached can be read without it."""
        if not self.path.is_file() or not self._mark.is_file():
            return False
        try:
            return self._mark.read_text() == self.remote.version()
        except Lost:
            return True


def read_whole(place: str | Path, access: Access | None = None, limit: int = 2**30) -> bytes:
    """All of a small file. Raises FileNotFoundError (or Lost) where there is none, UserError
    beyond ``limit`` bytes."""
    file = RemoteFile(str(place), access or Access()) if is_remote(place) else store(place)
    if (size := file.size()) > limit:
        raise UserError(f"{place} has {size} bytes, which is no index or caption: see data.root=")
    return bytes(file.read(0, size))


def version(place: str | Path, access: Access | None = None) -> str:
    """What changes when a file does: its size, time and tag as far as they are known.

    Raises FileNotFoundError where there is none, Lost where a server does not answer.
    """
    if is_remote(place):
        return RemoteFile(str(place), access or Access()).version()
    state = Path(str(place).removeprefix("file://")).stat()
    return f"{state.st_size} {state.st_mtime_ns}"
