"""Writing files so that no reader ever meets half of one."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all; folders are made, an old file is replaced.

    Written under a temporary name beside it, flushed to the disk and renamed. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """What was renamed in `folder` stays so after a power cut."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows cannot, and need not
    handle = os.open(folder, os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
