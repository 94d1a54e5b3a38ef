"""Checkpoints that are whole or not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from glissando.checkpoints.files import PREVIOUS, read_training
from glissando.files import sync_folder


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
            sync_folder(path.parent)
        finally:
            partial.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Of any kind: a sharded one is put together."""
        return read_training(Path(path))


def keep_previous(path: Path) -> None:
    """The checkpoint at ``path`` is also ``previous.ckpt`` from now on, and not for a moment less.

    What comes next does not touch it. A sharded checkpoint is a folder of such files.
    """
    if not path.exists():
        return
    previous, second = path.with_name(PREVIOUS), path.with_name(f".{PREVIOUS}.part")
    remove(second)
    second_name(path, second)
    if path.is_dir():
        remove(previous)
    second.replace(previous)


def second_name(path: Path, second: Path) -> None:
    """The checkpoint at ``path`` is also ``second``, whatever takes its place at ``path`` later.

    The same bytes, which saving never changes; a copy where the file system has no second names.
    """
    second.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, second, copy_function=_link)
    else:
        _link(path, second)


def _link(path: str | Path, second: str | Path) -> None:
    try:
        os.link(path, second)
    except OSError:
        shutil.copyfile(path, second)


def remove(path: Path) -> None:
    """Removes a checkpoint, be it a file or a folder; nothing happens where there is none."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
