"""Spans of time as a command line has them: ``from-to`` in seconds."""

from __future__ import annotations

import re
from typing import Any

from glissando.errors import UserError

_SPAN = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*-\s*(\d+\.?\d*|\.\d+)\s*")


def spans_of(value: Any, flag: str = "inpaint") -> list[tuple[float, float]]:
    """(from, to) in seconds of ``2.0-4.5`` or ``[2.0-4.5,7-8]``, as text or as a list of texts.

    Raises UserError, naming ``flag``, when there is none or one cannot be read.
    """
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value).strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    matches = [_SPAN.fullmatch(part) for part in text.split(",")]
    spans = [(float(match[1]), float(match[2])) for match in matches if match]
    if len(spans) < len(matches):
        raise UserError(
            f"{flag}={text} is no span from-to in seconds: write {flag}=2.0-4.5 or "
            f"{flag}=[2.0-4.5,7-8]"
        )
    return spans
