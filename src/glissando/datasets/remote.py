"""Files on servers, read by ranges through fsspec, patiently.

A server (``http://``, ``https://``, ``s3://``, ``gs://`` and whatever else fsspec knows) that is
slow, breaks off or answers 503 is asked again, ever later; one that never answers is `Lost`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

from glissando.errors import UserError

T = TypeVar("T")

#: Bytes of a piece in which a whole file is fetched: what one answer within the timeout must hold.
PIECE = 4 * 2**20
#: Seconds of the longest pause between two tries.
LONGEST_PAUSE = 30.0

#: Its own, because the pauses must not draw from the generators that a run's seed sets.
_chance = random.Random()


class Lost(UserError):
    """A server that did not answer however often it was asked, or a file that is gone."""


class Gone(Lost, FileNotFoundError):
    """A file that a server does not have."""


@dataclass(frozen=True)
class Access:
    """How servers are asked: ``retries`` after a failure, ``timeout`` seconds for one answer.

    ``cache`` is a folder in which whole tars are kept when first read; None reads ranges.
    """

    retries: int = 6
    timeout: float = 30.0
    cache: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.retries, int) or self.retries < 0:
            raise UserError(f"data.retries must be a whole number from 0 on, not {self.retries}")
        if not isinstance(self.timeout, (int, float)) or not self.timeout > 0:
            raise UserError(f"data.timeout must be above 0 seconds, not {self.timeout}")

    def plain(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class RemoteFile:
    """A file on a server, read by ranges through fsspec."""

    url: str
    access: Access
    ahead: int = 256 * 1024  # a crop of a long FLAC in 2 requests; 64 KiB takes 4

    def size(self) -> int:
        """Bytes of the file, asked once."""
        return int(self._facts["size"])

    def version(self) -> str:
        """What changes when the file does, as far as the server says so."""
        names = ("size", "ETag", "etag", "Last-Modified", "LastModified", "mtime", "generation")
        return " ".join(str(self._facts[name]) for name in names if self._facts.get(name))

    @cached_property
    def _facts(self) -> dict[str, Any]:
        facts = self.asked(lambda fs, path, timeout: _call(fs, "info", timeout, path))
        if facts.get("size") is None:
            raise UserError(f"{self.url}: the server does not say how long it is; see data.root=")
        return facts

    def read(self, offset: int, size: int) -> bytearray:
        if size <= 0:
            return bytearray()

        def ask(fs: Any, path: str, timeout: float) -> bytes:
            content = _call(fs, "cat_file", timeout, path, start=offset, end=offset + size)
            if len(content) < min(size, self.size() - offset):
                raise OSError(f"the answer ends after {len(content)} of {size} bytes")
            return content

        content = self.asked(ask)
        if len(content) > size:
            raise UserError(
                f"{self.url}: the server sends the whole file when asked for a part of it: set "
                "data.cache=folder, which keeps whole tars there"
            )
        return bytearray(content)

    def fetch(self, target: Path) -> None:
        """The whole file to ``target``, piece by piece, so that a cut costs one piece."""
        with target.open("wb") as file:
            try:
                for offset in range(0, self.size(), PIECE):
                    file.write(self.read(offset, min(PIECE, self.size() - offset)))
            except Lost:
                raise
            except UserError:  # no ranges: all of it, from the beginning at every try

                def all_of_it(fs: Any, path: str, timeout: float) -> None:
                    _call(fs, "get_file", None, path, str(target))
                    if (got := target.stat().st_size) != self.size():
                        raise OSError(f"the answer ends after {got} of {self.size()} bytes")

                self.asked(all_of_it)

    def asked(self, ask: Callable[[Any, str, float], T]) -> T:
        """``ask(file system, path, timeout)``, again after a pause that doubles."""
        fs, path = _file_system(self.url)
        began, reason = monotonic(), ""
        for tried in range(self.access.retries + 1):
            if tried:
                pause = min(LONGEST_PAUSE, 0.25 * 2**tried)
                sleep(pause * (0.5 + _chance.random()))  # workers must not come back at once
            try:
                return ask(fs, path, self.access.timeout)
            except UserError:
                raise
            except Exception as error:  # whatever the library of this kind of server throws
                reason = _reason(error)
                if not _may_pass(error):
                    if isinstance(error, FileNotFoundError):
                        raise Gone(f"{self.url}: no such file; see data.root=") from error
                    raise Lost(f"{self.url}: {reason}; see data.root=") from error
        took = monotonic() - began
        raise Lost(
            f"{self.url}: {reason}, {self.access.retries + 1} times in {took:.0f} s; run it again "
            "to go on, or set data.retries= or data.timeout="
        )


def listed(pattern: str, access: Access) -> list[str]:
    """The URLs that match one with ``*`` in it; UserError where the server cannot list."""

    def ask(fs: Any, path: str, timeout: float) -> list[str]:
        return [fs.unstrip_protocol(name) for name in _call(fs, "glob", timeout, path)]

    return RemoteFile(pattern, access).asked(ask)


def _file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system of this process, and the path in it; fsspec keeps one per process."""
    import fsspec

    protocol = url.partition("://")[0]
    extra = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}.get(protocol)
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        how = f'pip install "glissando[{extra}]"' if extra else "http, https, s3 and gs are read"
        raise UserError(f"data.root={url} cannot be opened ({error}): {how}") from None


def _call(fs: Any, name: str, timeout: float | None, *args: Any, **kwargs: Any) -> Any:
    """A method of a file system; asynchronous ones are given up after ``timeout`` seconds."""
    if not getattr(fs, "async_impl", False):
        return getattr(fs, name)(*args, **kwargs)
    from fsspec.asyn import sync

    return sync(fs.loop, getattr(fs, f"_{name}"), *args, timeout=timeout, **kwargs)


def _may_pass(error: BaseException) -> bool:
    """Is it worth another try? Not where the server says clearly that it will not."""
    status = _status(error)
    if status is not None:
        return status in (408, 425, 429) or status >= 500
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        return _may_pass(error.__cause__)  # fsspec's http says so of everything
    final = (FileNotFoundError, PermissionError, NotImplementedError)
    return not isinstance(error, final) and "Credential" not in type(error).__name__


def _status(error: BaseException) -> int | None:
    """The status that an HTTP server answered, where the error tells."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status
    cause = error.__cause__
    return _status(cause) if cause is not None and isinstance(error, OSError) else None


def _reason(error: BaseException) -> str:
    from fsspec.exceptions import FSTimeoutError

    if isinstance(error, (FSTimeoutError, TimeoutError)):
        return "no answer in time"
    if (status := _status(error)) is not None:
        return f"the server answers {status}"
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
