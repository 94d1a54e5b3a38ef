"""One of a list of words (instrument, key, collection) -> a learned vector."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Literal

import torch
from torch import Tensor, nn

from glissando.condition import Condition, Size, Sizes, Vector
from glissando.conditioners.base import Conditioner, absent_value, rows
from glissando.errors import UserError


class CategoryConditioner(Conditioner):
    """A table with one learned vector a value.

    Args:
        name: of the entry (Vector).
        values: all values there are, in an order that a checkpoint relies on: append, never sort.
        dim: D of the entry.
        attribute: key in a clip's attributes; ``name`` by default.
        unconditional: ``learned`` (default), ``zero`` or ``kept``.
    """

    def __init__(
        self,
        name: str,
        values: Sequence[str],
        dim: int = 128,
        attribute: str | None = None,
        unconditional: Literal["zero", "learned", "kept"] = "learned",
    ) -> None:
        super().__init__(attribute or name, unconditional)
        self.name, self.dim = name, dim
        self._index = {str(value): index for index, value in enumerate(values)}
        if not values or len(self._index) < len(values):
            raise UserError(f"conditioner.{name}.values must be a list of different words")
        self.table = nn.Embedding(len(values), dim)
        absent_value(unconditional, dim, self, "absent_vector")
        self.absent_vector: Tensor

    @property
    def sizes(self) -> Sizes:
        return {self.name: Size(Vector, self.dim)}

    def parse(self, value: Any) -> int:
        word = str(value)
        if word in self._index:
            return self._index[word]
        near = get_close_matches(word, self._index, n=3) or list(self._index)[:5]
        raise UserError(
            f"{self.attribute}={value!r} is not in conditioner.{self.name}.values "
            f"(near: {', '.join(near)})"
        )

    def embed(self, values: list[int], frames: int | None = None) -> Condition:
        index = torch.tensor(values, device=self.table.weight.device)
        return Condition({self.name: Vector(self.table(index))})

    def absent(self, n: int, frames: int = 1) -> Condition:
        return Condition({self.name: Vector(rows(self.absent_vector, n))})
