"""A Brownian path on [0, 1] that can be asked at any place, in any order, without being stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor

# Halvings of [0, 1]. A place costs a draw of noise for each, and places that lie in different
# intervals of 2^-DEPTH have exactly a Brownian path's law.
DEPTH = 12


class Brownian:
    """Lévy's construction: the middle of an interval, given its ends, is their mean plus noise.

    So every halving adds a tent, and W(t) is a sum over the intervals that t is in; in the last and
    smallest it is drawn as a point of the bridge between its ends. ``node(number)`` gives unit
    noise: 0 is W(1), 1 belongs to the whole interval, and the halves of that of node n are those of
    2 n and 2 n + 1. It must always give the same for the same number. Nothing is kept but W at the
    last place asked, which a sampler's next step shares.
    """

    def __init__(self, node: Callable[[int], Tensor]) -> None:
        self._node = node
        self._last: tuple[float, Tensor] | None = None

    def __call__(self, start: float, end: float) -> Tensor:
        """(W(end) - W(start)) / sqrt(end - start), unit noise; 0 <= start < end <= 1."""
        if not 0 <= start < end <= 1:
            raise ValueError(f"a Brownian path on [0, 1] has no increment from {start} to {end}")
        # The end first: it is the start of the step before.
        rise = self._at(end) - self._at(start)
        return rise.div_(math.sqrt(end - start))

    def _at(self, place: float) -> Tensor:
        """W at ``place``."""
        if self._last is None or self._last[0] != place:
            value = place * self._node(0)
            for number, height in heights(place):
                value.add_(self._node(number), alpha=height)
            self._last = place, value
        return self._last[1]


def heights(place: float) -> Iterator[tuple[int, float]]:
    """The nodes that W at ``place`` consists of besides W(1), and how much of each."""
    low, width, number = 0.0, 1.0, 1
    for _ in range(DEPTH):
        width /= 2
        # The bridge's deviation in the middle of the interval, sqrt(2 width) / 2, times a tent.
        tent = 1 - abs(place - low - width) / width
        yield number, math.sqrt(width / 2) * tent
        number *= 2
        if place >= low + width:
            low, number = low + width, number + 1
    yield number, math.sqrt(max(0.0, (place - low) * (low + width - place) / width))
