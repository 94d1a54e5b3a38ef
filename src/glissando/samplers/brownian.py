"""A Brownian path on [0, 1] that can be asked at any place, in any order, without being stored."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Places are rounded to 2^-24, far below any step of a grid.
DEPTH = 24


class Brownian:
    """Lévy's construction: the middle of an interval, given its ends, is their mean plus noise.

    ``node(number)`` gives unit noise: 0 is W(1), 1 the middle of the whole interval, and below
    node n come 2 n and 2 n + 1. It must always give the same for the same number. A
    query draws at most 24 of them; nothing is kept but the last place asked, which a sampler's
    next step shares.
    """

    def __init__(self, node: Callable[[int], Tensor]) -> None:
        self._node = node
        self._last: tuple[int, Tensor] | None = None

    def __call__(self, start: float, end: float) -> Tensor:
        """(W(end) - W(start)) / sqrt(end - start), unit noise; 0 <= start < end <= 1."""
        low, high = round(start * 2**DEPTH), round(end * 2**DEPTH)
        if not 0 <= low < high <= 2**DEPTH:
            raise ValueError(f"a Brownian path on [0, 1] has no increment from {start} to {end}")
        # The end first: it is the start of the step before.
        rise = self._at(high) - self._at(low)
        return rise / ((high - low) / 2**DEPTH) ** 0.5

    def _at(self, place: int) -> Tensor:
        """W at ``place`` / 2^24."""
        if self._last is None or self._last[0] != place:
            self._last = place, self._descend(place)
        return self._last[1]

    def _descend(self, place: int) -> Tensor:
        right = self._node(0)
        left = torch.zeros_like(right)
        low, width, number = 0, 2**DEPTH, 1
        while place not in (low, low + width):
            width //= 2
            spread = (width / 2 / 2**DEPTH) ** 0.5  # of a bridge's middle: sqrt(length / 4)
            middle = (left + right) / 2 + spread * self._node(number)
            if place < low + width:
                right, number = middle, 2 * number
            else:
                left, low, number = middle, low + width, 2 * number + 1
        return left if place == low else right
