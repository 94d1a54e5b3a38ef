"""Checkpoints that are whole or not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from glissando.checkpoints.files import PREVIOUS


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes under another name, fsyncs, renames: a crash leaves the previous file untouched."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.part")
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def keep_previous(path: Path) -> None:
    """The checkpoint at ``path`` is also ``previous.ckpt`` from now on, and not for a moment less.

    A second name of the same bytes, which the file that comes next does not touch; a copy where
    the file system has no such names.
    """
    if not path.is_file():
        return
    second = path.with_name(f".{PREVIOUS}.part")
    second.unlink(missing_ok=True)
    try:
        os.link(path, second)
    except OSError:
        shutil.copyfile(path, second)
    second.replace(path.with_name(PREVIOUS))


def _sync(folder: Path) -> None:
    """A rename in ``folder`` survives a power cut."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # not on Windows
    handle = os.open(folder, os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
