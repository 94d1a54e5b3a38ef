"""Which key an excerpt's own notes support.

A piece's notated key is often not the key of six seconds of it (it is in 45% of the chorales and
67% of the tunes), so a key is claimed only when three things agree: the notation, the
Krumhansl-Kessler profiles and the scale.
"""

from __future__ import annotations

import numpy as np

# Krumhansl & Kessler 1982, from Krumhansl, Cognitive Foundations of Musical Pitch (1990), p. 30.
MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
# Minor has the raised sixth and seventh of its melodic form too.
SCALES = {"major": {0, 2, 4, 5, 7, 9, 11}, "minor": {0, 2, 3, 5, 7, 8, 9, 10, 11}}
NAMES = {
    "major": ("C", "D-", "D", "E-", "E", "F", "F#", "G", "A-", "A", "B-", "B"),
    "minor": ("C", "C#", "D", "E-", "E", "F", "F#", "G", "G#", "A", "B-", "B"),
}
CLEAR = 0.04  # how far the best correlation must be above the second
INSIDE = 0.95  # share of the sounding time on notes of the scale


def histogram(pitches: list[int], durations: list[float]) -> np.ndarray:
    """Sounding time of each pitch class, C first: (12,)."""
    return np.bincount(np.array(pitches) % 12, weights=durations, minlength=12)


def krumhansl(weights: np.ndarray) -> list[tuple[float, int, str]]:
    """(correlation, tonic, mode) of the 24 keys, best first; ``weights`` is (12,)."""
    found = [
        (float(np.corrcoef(np.roll(profile, tonic), weights)[0, 1]), tonic, mode)
        for mode, profile in (("major", MAJOR), ("minor", MINOR))
        for tonic in range(12)
    ]
    return sorted(found, reverse=True)


def supported_key(weights: np.ndarray, sharps: int, mode: str | None) -> str | None:
    """The key, as in "E-flat major", or None where the notes do not support the notated one.

    ``sharps`` (flats negative) and ``mode`` are the notation's, transposed as the notes are; of
    modes, only "major" and "minor" are ever claimed. Without a mode, either may be found.
    """
    if mode not in ("major", "minor", None) or np.ptp(weights) == 0:
        return None
    (best, tonic, found), (second, _, _) = krumhansl(weights)[:2]
    notated = sharps * 7 % 12 if found == "major" else (sharps * 7 + 9) % 12
    scale = [(tonic + step) % 12 for step in SCALES[found]]
    inside = weights[scale].sum() / weights.sum()
    third = weights[(tonic + (4 if found == "major" else 3)) % 12]
    agree = tonic == notated and mode in (found, None)
    if not agree or best - second < CLEAR or inside < INSIDE or not third * weights[tonic]:
        return None
    return key_name(tonic, found)


def key_name(tonic: int, mode: str) -> str:
    """ "F-sharp minor" and the like; of two spellings the one with fewer accidentals."""
    name = NAMES[mode][tonic].replace("-", "-flat").replace("#", "-sharp")
    return f"{name} {mode}"
