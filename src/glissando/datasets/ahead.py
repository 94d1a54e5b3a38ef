"""The disk is told which shards an epoch's order will take samples of, before it does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from glissando.datasets.shards import Shard
from glissando.errors import UserError

#: Bytes of the shards that are read before they are wanted, which must stay in memory until then.
ROOM = 512 * 2**20


class ReadAhead:
    """Has whole shards read while samples of those before them are taken.

    In a shuffled order the system cannot know what comes, and a disk needs twice the time for
    single samples as for the same bytes in one stretch. But the order takes all samples of ``mix``
    shards before it goes on to the next ones (``datasets/order.py``), so all of a shard that is
    read whole is used. One round of ``mix`` shards is told at the beginning, then further ones
    in the pace in which samples are consumed. A shard of which less than half is wanted (an
    epoch that was begun before) is left to be read by samples.

    Args:
        which: the shard of each visit that is left of the epoch, on all ranks, in order.
        again: how often each visit's sample came before (weighted sources repeat theirs).
        counts: samples of each shard.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        which: np.ndarray,
        again: np.ndarray,
        counts: Sequence[int],
        mix: int,
    ) -> None:
        each = again * len(shards) + which
        _, first, wanted = np.unique(each, return_index=True, return_counts=True)
        parts = [(int(which[first[i]]), int(wanted[i])) for i in np.argsort(first)]
        self._parts = [(shards[number], n, 2 * n >= counts[number]) for number, n in parts]
        self._round = [shard for shard, *_ in self._parts[:mix]]
        self._lead = sum(n for _, n, _ in self._parts[:mix])
        self._told = 0  # samples of the parts that are behind us
        self._next = 0

    def fits(self) -> bool:
        """Is there room for what would be read ahead?"""
        with suppress(UserError):  # reading will tell
            return sum(shard.index["bytes"] for shard in self._round) <= ROOM
        return False

    def reach(self, consumed: int) -> None:
        """Tell of what is wanted soon after the first ``consumed`` visits."""
        while self._next < len(self._parts) and self._told < consumed + self._lead:
            shard, wanted, whole = self._parts[self._next]
            if whole:
                with suppress(UserError, OSError):
                    shard.expect()
            self._told += wanted
            self._next += 1
