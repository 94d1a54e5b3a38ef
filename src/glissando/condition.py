"""What is known about each clip of a batch, by name: the one thing conditioners hand to networks.

Shapes: B batch, S tokens, D features, F frequency rows, T time steps of the latent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
import torch.nn.functional as fn
from torch import Tensor


def _refuse(entry: object, wanted: str, value: Tensor) -> None:
    name = type(entry).__name__
    raise ValueError(f"{name} needs a value of shape {wanted}, got {tuple(value.shape)}")


def _per_row(keep: Tensor, like: Tensor) -> Tensor:
    """Reshapes a (B,) choice so that it broadcasts over `like` (B, ...)."""
    return keep.view(-1, *[1] * (like.ndim - 1))


@dataclass(frozen=True)
class Vector:
    """One vector per clip: `value` (B, D)."""

    value: Tensor

    def __post_init__(self) -> None:
        if self.value.ndim != 2:
            _refuse(self, "(B, D)", self.value)

    @property
    def dim(self) -> int:
        return self.value.shape[1]

    def each(self, function: Callable[[Tensor], Tensor]) -> Vector:
        """The same entry with `function` applied to its tensor(s)."""
        return Vector(function(self.value))

    def where(self, keep: Tensor, null: Vector) -> Vector:
        return Vector(torch.where(_per_row(keep, self.value), self.value, null.value))

    def cat(self, other: Vector) -> Vector:
        return Vector(torch.cat([self.value, other.value]))


@dataclass(frozen=True)
class Sequence:
    """Tokens per clip: `value` (B, S, D) and `mask` (B, S), True where a token is real."""

    value: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        if self.value.ndim != 3:
            _refuse(self, "(B, S, D)", self.value)
        if self.mask.shape != self.value.shape[:2] or self.mask.dtype != torch.bool:
            raise ValueError(
                f"Sequence needs a boolean mask of shape {tuple(self.value.shape[:2])}, "
                f"got {self.mask.dtype} {tuple(self.mask.shape)}"
            )

    @property
    def dim(self) -> int:
        return self.value.shape[2]

    def each(self, function: Callable[[Tensor], Tensor]) -> Sequence:
        """The same entry with `function` applied to its tensor(s)."""
        return Sequence(function(self.value), function(self.mask))

    def pad(self, length: int) -> Sequence:
        """Padded at the end to `length` tokens with masked zeros."""
        extra = length - self.value.shape[1]
        if extra <= 0:
            return self
        return Sequence(fn.pad(self.value, (0, 0, 0, extra)), fn.pad(self.mask, (0, extra)))

    def _same_length(self, other: Sequence) -> tuple[Sequence, Sequence]:
        length = max(self.value.shape[1], other.value.shape[1])
        return self.pad(length), other.pad(length)

    def where(self, keep: Tensor, null: Sequence) -> Sequence:
        a, b = self._same_length(null)
        return Sequence(
            torch.where(_per_row(keep, a.value), a.value, b.value),
            torch.where(_per_row(keep, a.mask), a.mask, b.mask),
        )

    def cat(self, other: Sequence) -> Sequence:
        a, b = self._same_length(other)
        return Sequence(torch.cat([a.value, b.value]), torch.cat([a.mask, b.mask]))


@dataclass(frozen=True)
class Local:
    """A condition aligned with the latent: `value` (B, D, F or 1, T)."""

    value: Tensor

    def __post_init__(self) -> None:
        if self.value.ndim != 4:
            _refuse(self, "(B, D, F or 1, T)", self.value)

    @property
    def dim(self) -> int:
        return self.value.shape[1]

    def each(self, function: Callable[[Tensor], Tensor]) -> Local:
        """The same entry with `function` applied to its tensor(s)."""
        return Local(function(self.value))

    def where(self, keep: Tensor, null: Local) -> Local:
        return Local(torch.where(_per_row(keep, self.value), self.value, null.value))

    def cat(self, other: Local) -> Local:
        return Local(torch.cat([self.value, other.value]))


Entry = Vector | Sequence | Local
_T = TypeVar("_T", bound=Entry)


@dataclass(frozen=True)
class Size:
    """What a network must know of an entry before it sees one: its kind and its D features."""

    kind: type[Vector] | type[Sequence] | type[Local]
    dim: int


Sizes = Mapping[str, Size]


class Condition(Mapping[str, Entry]):
    """A frozen mapping from name to entry. `Condition()` is the empty one, of any batch size.

    Raises ValueError if two entries disagree on the batch size.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: Mapping[str, Entry] | None = None) -> None:
        self._entries: dict[str, Entry] = dict(entries or {})
        batches = {name: len(entry.value) for name, entry in self._entries.items()}
        if len(set(batches.values())) > 1:
            raise ValueError(f"the entries of a condition disagree on the batch size: {batches}")

    def __getitem__(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise KeyError(f"no entry {name!r} in this condition; it has {list(self)}") from None

    def __contains__(self, name: object) -> bool:  # Mapping's own would go through the message
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        inside = ", ".join(
            f"{name}: {type(entry).__name__}{tuple(entry.value.shape)}"
            for name, entry in self.items()
        )
        return f"Condition({inside})"

    @property
    def batch(self) -> int | None:
        """B, or None if there is no entry."""
        return next((len(entry.value) for entry in self.values()), None)

    @property
    def sizes(self) -> Sizes:
        return {name: Size(type(entry), entry.dim) for name, entry in self.items()}

    def where(self, keep: Tensor | Mapping[str, Tensor], null: Condition) -> Condition:
        """This condition in the rows that `keep`, `null`'s in the others (dropout for guidance).

        `keep` is (B,) bool for all entries jointly, or a mapping from an entry's name to its own
        (B,) choice (an entry that it does not name stays whole). A sequence and its null may differ
        in S: the shorter is padded with masked zeros. What the null of an entry is (zeros, learned,
        or the entry itself) is the conditioner's policy. Raises KeyError if `null` lacks an entry.
        """
        each = keep if isinstance(keep, Mapping) else dict.fromkeys(self, keep)
        if unknown := sorted(set(each) - set(self)):
            raise KeyError(f"dropout names {unknown}, but the condition has {list(self)}")
        return Condition(
            {
                name: entry.where(each[name], _same_kind(name, entry, null[name]))  # type: ignore
                if name in each
                else entry
                for name, entry in self.items()
            }
        )

    def cat(self, other: Condition) -> Condition:
        """Both along B, e.g. a condition and its null in one guided call. S is padded as needed.

        Raises ValueError if the two do not have the same entries.
        """
        if set(self) != set(other):
            raise ValueError(f"cannot concatenate entries {list(self)} with {list(other)}")
        return Condition(
            {
                name: entry.cat(_same_kind(name, entry, other[name]))  # type: ignore
                for name, entry in self.items()
            }
        )

    def merge(self, other: Condition) -> Condition:
        """The entries of both. Raises ValueError if a name is in both."""
        if double := sorted(set(self) & set(other)):
            raise ValueError(f"entries made twice: {double}; give each conditioner its own name")
        return Condition({**self._entries, **other._entries})

    def only(self, names: Iterable[str]) -> Condition:
        """The entries among `names`; names that are not there are passed over."""
        wanted = set(names)
        return Condition({name: entry for name, entry in self.items() if name in wanted})

    def move(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Condition:
        """On another device, and the values (never the masks) in another floating-point type."""
        return Condition(
            {
                name: replace(
                    entry.each(lambda x: x.to(device)), value=entry.value.to(device, dtype)
                )
                for name, entry in self.items()
            }
        )

    def rows(self, index: Tensor | slice | list[int]) -> Condition:
        """The clips at `index` along B."""
        return Condition({name: entry.each(lambda x: x[index]) for name, entry in self.items()})


def _same_kind(name: str, entry: _T, other: Entry) -> _T:
    if not isinstance(other, type(entry)):
        kinds = f"{type(entry).__name__} and {type(other).__name__}"
        raise ValueError(f"entry {name!r} is a {kinds} in two conditions that are put together")
    return other
