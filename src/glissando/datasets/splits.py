"""Which clips are for training and which to validate and test on."""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate

from glissando.datasets.base import SPLITS
from glissando.errors import UserError


def shares(splits: Mapping[str, float] | None) -> dict[str, float]:
    """``data.splits`` as given, or 90, 5 and 5 %; UserError unless it is shares that sum to 1."""
    found = dict(splits or {"train": 0.9, "valid": 0.05, "test": 0.05})
    if set(found) - set(SPLITS) or min(found.values()) < 0 or abs(sum(found.values()) - 1) > 1e-6:
        raise UserError(f"data.splits must give shares of {SPLITS} that sum to 1")
    return found


def dealt(groups: set[str], splits: Mapping[str, float], seed: int) -> dict[str, str]:
    """Group -> split, by a hash of its name, so that a new group moves no other.

    A split left empty by chance gets one group if there are three or more.
    """

    def place(group: str) -> float:
        return int(hashlib.sha256(f"{seed} {group}".encode()).hexdigest()[:12], 16) / 16**12

    ordered = sorted(groups, key=lambda group: (place(group), group))
    ends = list(accumulate(splits.values()))
    names = list(splits)
    found = {g: names[min(bisect(ends, place(g)), len(names) - 1)] for g in ordered}
    for split, share in splits.items():
        count = Counter(found.values())
        largest = max(count, key=count.__getitem__)
        if share > 0 and not count[split] and len(groups) >= 3 and count[largest] > 1:
            found[next(group for group in ordered if found[group] == largest)] = split
    return found
