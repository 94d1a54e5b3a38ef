"""A checkpoint in parts is the checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glissando.checkpoints.files import locate, read, read_training, whole
from glissando.checkpoints.sharded import Pieces, assembled, is_sharded, split, write_part
from glissando.errors import UserError

ROWS = (3, 3, 1)  # of a weight of 7 rows in three processes, as torch.chunk deals them


def checkpoint() -> dict[str, Any]:
    chance = torch.Generator().manual_seed(0)
    return {
        "state_dict": {"a.w": torch.randn(7, 2, generator=chance), "b": torch.randn(4)},
        "optimizer_states": [{"state": {0: {"m": torch.randn(7, 2, generator=chance), "step": 3}}}],
        "place": (1, 5),
        "glissando": {"averaged": "a", "kind": "diffusion"},
        "ema": {"w": torch.randn(7, 2, generator=chance)},
    }


def written(folder: Path, content: dict[str, Any]) -> Path:
    """``content`` in three parts, tensors of seven rows shared out."""
    begin = 0
    for rank, count in enumerate(ROWS):

        def rows(leaf: Any, begin: int = begin, count: int = count) -> Tensor | None:
            large = isinstance(leaf, Tensor) and len(leaf) == sum(ROWS)
            return leaf[begin : begin + count].clone() if large else None

        write_part(folder, rank, *split(content, rows))
        begin += count
    return folder


def same(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one.keys() == two.keys()
    assert (one["glissando"], one["place"]) == (two["glissando"], two["place"])
    for key in ("state_dict", "optimizer_states", "ema"):
        torch.testing.assert_close(one[key], two[key], atol=0, rtol=0)


def test_parts_together_are_the_whole(tmp_path: Path) -> None:
    content = checkpoint()
    folder = written(tmp_path / "last.ckpt", content)
    assert is_sharded(folder)
    back = read_training(folder)
    same(back, content)
    apart = read_training(folder, assemble=False)
    pieces = apart["optimizer_states"][0]["state"][0]["m"]
    assert isinstance(pieces, Pieces)
    assert pieces.shape == (7, 2)
    same(assembled(apart), content)
    # As a whole one would be: found in its run folder, read for use with the average laid over.
    stored = read(locate(folder))
    torch.testing.assert_close(stored.weights["a.w"], content["ema"]["w"])
    assert whole(folder) == folder


@pytest.mark.parametrize("begin", range(8))
@pytest.mark.parametrize("count", range(4))
def test_any_rows_are_read_from_the_parts_that_hold_them(begin: int, count: int) -> None:
    every = torch.arange(14.0).view(7, 2)
    pieces = Pieces(every.split(ROWS))
    torch.testing.assert_close(pieces.rows(begin, count), every[begin : begin + count])


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["rest.ckpt", "part-00001.ckpt"])
def test_code_in_a_part_does_not_run(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path / "last.ckpt", checkpoint())
    torch.save({"x": Malicious(tmp_path / "run")}, folder / name)
    with pytest.raises(UserError, match="was not opened"):
        read_training(folder)
    assert not (tmp_path / "run").exists()
