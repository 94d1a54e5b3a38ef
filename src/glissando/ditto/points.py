"""What changes in a clip, as text: ``seconds:value`` from the first on, with spaces between."""

from __future__ import annotations

import math

from glissando.errors import UserError


def points(text: str, flag: str, example: str) -> list[tuple[float, str]]:
    """``0:-40 3:-10`` -> [(0.0, "-40"), (3.0, "-10")], in order of the seconds.

    Commas count as spaces. Raises UserError, naming ``flag``, for what cannot be read so and where
    two have the same second.
    """
    found: list[tuple[float, str]] = []
    for word in str(text).replace(",", " ").split():
        second, colon, value = word.partition(":")
        at = number(second)
        if not (colon and value and 0 <= at < math.inf):
            raise UserError(f"{flag}: {word!r} is not seconds:value, as in {flag}={example!r}")
        found.append((at, value))
    found.sort(key=lambda point: point[0])
    if not found or len({at for at, _ in found}) < len(found):
        raise UserError(f"{flag}: give each second one value, as in {flag}={example!r}")
    return found


def number(text: str) -> float:
    """The number of a text; NaN if it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def held(marks: list[tuple[float, str]], times: list[float]) -> list[str | None]:
    """At each time the value of the last point before it; None before the first."""
    values: list[str | None] = []
    for time in times:
        passed = [value for at, value in marks if at <= time]
        values.append(passed[-1] if passed else None)
    return values
