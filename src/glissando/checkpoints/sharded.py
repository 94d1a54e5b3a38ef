"""A checkpoint of a sharded run: a folder in which each process has written its own part.

``rest.ckpt`` is the whole checkpoint with a ``{"rows of": name}`` in place of each sharded tensor,
and ``part-00000.ckpt`` … hold those tensors' rows, name -> (rows, …), in the order of the
processes. All are read as weights alone and memory-mapped, so that a part of a tensor costs no more
than its bytes. (``torch.distributed.checkpoint`` keeps a pickle beside its files, which runs what
it likes when it is read.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

REST = "rest.ckpt"
_ROWS = "rows of"


class Pieces:
    """A tensor that lies in several files, by rows: (n_0 + n_1 + …, …)."""

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self.parts = parts

    @property
    def shape(self) -> torch.Size:
        """Of all rows together."""
        return torch.Size([sum(map(len, self.parts)), *self.parts[0].shape[1:]])

    def whole(self) -> Tensor:
        """All rows, in memory."""
        return torch.cat(list(self.parts))

    def rows(self, begin: int, count: int) -> Tensor:
        """Rows ``begin`` to ``begin + count``, read from the parts that hold them alone."""
        taken, first = [], 0
        for part in self.parts:
            low, high = max(begin - first, 0), min(begin + count - first, len(part))
            if low < high:
                taken.append(part[low:high])
            first += len(part)
        return torch.cat(taken) if taken else self.parts[0][:0]


def is_sharded(path: Path) -> bool:
    """Is there a sharded checkpoint at ``path``?"""
    return (path / REST).is_file()


def files_of(path: Path) -> list[Path]:
    """The files of a checkpoint: one, or those in the folder of a sharded one."""
    return sorted(path.glob("*.ckpt")) if path.is_dir() else [path]


def split(
    checkpoint: Any, sharded: Callable[[Any], Tensor | None], place: tuple[Any, ...] = ()
) -> tuple[Any, dict[str, Tensor]]:
    """``checkpoint`` without its sharded tensors, and the rows that this process has of those.

    ``sharded`` gives the rows of a leaf, or None where it is not sharded.
    """
    if isinstance(checkpoint, dict):
        parts = {key: split(value, sharded, (*place, key)) for key, value in checkpoint.items()}
        rows = {name: part for _, own in parts.values() for name, part in own.items()}
        return {key: rest for key, (rest, _) in parts.items()}, rows
    if isinstance(checkpoint, (list, tuple)):
        found = [split(value, sharded, (*place, i)) for i, value in enumerate(checkpoint)]
        rows = {name: part for _, own in found for name, part in own.items()}
        return type(checkpoint)(rest for rest, _ in found), rows
    own = sharded(checkpoint)
    if own is None:
        return checkpoint, {}
    name = "/".join(map(str, place))
    return {_ROWS: name}, {name: own}


def write_part(folder: Path, rank: int, rest: Any, rows: dict[str, Tensor]) -> None:
    """This process's files of a sharded checkpoint, on the disk when it returns."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {f"part-{rank:05d}.ckpt": rows}
    if rank == 0:
        wanted[REST] = rest
    for name, content in wanted.items():
        with (folder / name).open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())


def read_sharded(folder: Path, load: Callable[[Path], Any]) -> Any:
    """The checkpoint with ``Pieces`` in place of its sharded tensors; ``load`` reads one file."""
    parts = [load(path) for path in files_of(folder) if path.name != REST]

    def join(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {_ROWS}:
                return Pieces([part[value[_ROWS]] for part in parts])
            return {key: join(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(join(inner) for inner in value)
        return value

    return join(load(folder / REST))


def assembled(value: Any) -> Any:
    """The same with every ``Pieces`` as one tensor."""
    if isinstance(value, Pieces):
        return value.whole()
    if isinstance(value, dict):
        return {key: assembled(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(assembled(inner) for inner in value)
    return value
