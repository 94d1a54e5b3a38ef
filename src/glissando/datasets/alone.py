"""One process at a time makes a folder; the others wait and find it made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from glissando.progress import note


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other process is in here with the same ``folder``; a killed one is no longer in here.

    torchrun and srun start all processes at once, and a second run may want the same data.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        note(f"{folder}: another process is making it, waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
