"""The name somebody probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` most like `name`, or None if none is close.

    Dotted keys are compared whole and by their last part, so that ``width`` finds
    ``model.width`` and ``modle.width`` finds it as well.
    """
    candidates = sorted(set(names))
    whole = get_close_matches(name, candidates, n=1, cutoff=0.75)
    if whole:
        return whole[0]
    last = name.rpartition(".")[2]
    ends = {candidate: candidate.rpartition(".")[2] for candidate in candidates}
    close = get_close_matches(last, set(ends.values()), n=1, cutoff=0.75)
    alike = [candidate for candidate, end in ends.items() if close and end == close[0]]
    if alike:
        return max(alike, key=lambda candidate: SequenceMatcher(None, name, candidate).ratio())
    if "." in name:
        return None  # its group alone would look alike enough
    rough = get_close_matches(name, candidates, n=1, cutoff=0.6)
    return rough[0] if rough else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """``"; did you mean X?"``, or nothing."""
    found = nearest(name, names)
    return f"; did you mean {found}?" if found else ""
