"""A U-Net's sizes, level by level, from how people like to write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glissando.errors import UserError


def level_widths(width: int, multiples: Sequence[int]) -> list[int]:
    """Each level's width. Raises UserError unless all are positive."""
    widths = [width * multiple for multiple in multiples]
    if min(widths, default=0) < 1:
        raise UserError(
            f"model.multiples={_plain(multiples)} and model.width={width} must be positive numbers"
        )
    return widths


def per_level(name: str, value: int | Sequence[int], levels: int) -> list[int]:
    """One number for all levels, or one for each. Raises UserError, naming `model.<name>`."""
    found = [value] * levels if isinstance(value, int) else list(value)
    if len(found) != levels or min(found, default=0) < 1:
        raise UserError(
            f"model.{name}={value} must be a positive number, or one for each of the {levels} "
            "levels of model.multiples"
        )
    return found


def pairs(factor: Sequence[Any], levels: int) -> list[tuple[int, int]]:
    """(ff, ft) for each level from such a list, or from one pair for all levels but the first."""
    one = all(isinstance(part, int) for part in factor)
    each = [(1, 1)] + [factor] * (levels - 1) if one else list(factor)
    if len(each) != levels or not all(map(_is_pair, each)):
        raise UserError(
            f"model.factor={_plain(factor)} must be one pair [ff, ft] of positive numbers, or one "
            f"for each of the {levels} levels of model.multiples"
        )
    return [(int(ff), int(ft)) for ff, ft in each]


def odd(kernel: Sequence[int]) -> tuple[int, int]:
    """(kf, kt). Raises UserError unless they are two odd numbers."""
    if len(kernel) != 2 or min(kernel) < 1 or not all(size % 2 for size in kernel):
        raise UserError(f"model.kernel={_plain(kernel)} must be two odd numbers, [kf, kt]")
    return int(kernel[0]), int(kernel[1])


def attending(attention: Sequence[int], widths: list[int], heads: list[int]) -> list[int]:
    """The heads of each level, 0 where nothing attends; the last one, of the middle, always does.

    Raises UserError if `attention` names a level that is not there or heads do not divide a width.
    """
    last = len(widths) - 1
    if any(not 0 <= number <= last for number in attention):
        raise UserError(
            f"model.attention={_plain(attention)} names a level that is not there: they are "
            f"0 to {last} (model.multiples)"
        )
    found = [
        count if number in attention or number == last else 0 for number, count in enumerate(heads)
    ]
    for number, (width, count) in enumerate(zip(widths, found, strict=True)):
        if count and width % count:
            raise UserError(
                f"level {number} attends and its width {width} (model.width times its one of "
                f"model.multiples) is not divisible by model.heads={count}"
            )
    return found


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, Sequence) and len(pair) == 2 and min(pair) >= 1


def _plain(values: Sequence[Any]) -> list[Any]:
    return [_plain(value) if isinstance(value, Sequence) else value for value in values]
