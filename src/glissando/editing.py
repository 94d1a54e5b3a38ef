"""Part of a recording made anew: which latent frames that takes, and the splice of waveforms.

What is kept is the recording itself, not what the autoencoder makes of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from glissando.errors import UserError

FADE = 0.03
"""Seconds of a cross-fade: longer than a click, shorter than a note."""

Seconds = tuple[float, float]
Span = tuple[int, int]


@dataclass(frozen=True)
class Edit:
    """A recording ``original`` (A, L) of which ``spans`` are made anew.

    A span is [first, last) in samples. Spans are in order and do not meet; outside each lie
    ``fade`` samples in which the recording fades into what was made.
    """

    original: Tensor
    spans: tuple[Span, ...]
    fade: int

    def frames(self, hop: int, total: int) -> Tensor:
        """(total,) bool, True where a latent frame is to be made.

        All frames that sound in a span or its fades are, taking frame k to sound within ``hop`` of
        sample k hop (a lapped transform; a strided convolution's lies inside that). So are those
        beyond the recording, where nothing is known.
        """
        make = torch.zeros(total, dtype=torch.bool)
        for first, last in self.spans:
            low, high = max(first - self.fade, 0), last + self.fade
            make[low // hop : -(-high // hop) + 1] = True
        make[self.original.shape[-1] // hop + 1 :] = True
        return make

    def splice(self, made: Tensor) -> Tensor:
        """``made`` (B, A, L) in the spans, the recording to the bit where no fade reaches.

        The fades are linear. Their weights sum to 1, so no sample exceeds what is faded: a clip
        beyond full scale would be scaled as a whole for a file, and keep nothing to the bit. For
        the same reason what was made, and that alone, is scaled down to a peak of 1. The price is
        a dip where the two are unrelated, of 1.7 dB on the shipped model (fades of equal power
        have none, but may exceed full scale by 3 dB).
        """
        at = torch.arange(made.shape[-1])
        away = [torch.maximum(first - at, at - last + 1).clamp(min=0) for first, last in self.spans]
        share = (torch.stack(away).amin(0) / self.fade).clamp(max=1).to(made)
        peak = torch.where(share < 1, made, 0).abs().amax((1, 2), keepdim=True)
        return torch.lerp(made / peak.clamp(min=1), self.original.to(made).expand_as(made), share)


def edit(
    init: Tensor | None,
    make: Sequence[Seconds],
    length: int,
    rate: int,
    strength: float = 1.0,
) -> Edit:
    """``init`` (A, any) as a clip of ``length`` samples with the spans ``make``, in seconds.

    What lies beyond ``init`` is made too, and longer input is cut. Raises UserError, naming
    inpaint=, for a span that is reversed, empty or not inside the clip and for two that overlap;
    naming extend= where nothing is to be made; and naming strength= where it is below 1 and would
    start from the silence beyond ``init``.
    """
    if init is None:
        raise ValueError("make= needs init=, the waveform of which it keeps the rest")
    wanted = sorted(make)
    spans = [_samples(span, length, rate) for span in wanted]
    for number in range(1, len(spans)):
        if spans[number][0] < spans[number - 1][1]:
            one, two = (_text(span) for span in wanted[number - 1 : number + 1])
            raise UserError(f"inpaint={one} and inpaint={two} overlap: join them")
    given = init.shape[-1]
    if given < length:
        spans.append((given, length))
        if strength < 1:
            raise UserError(
                f"strength={strength:g} starts from the sound, but that ends at "
                f"{_shown(given, rate)} s: leave strength= out, or seconds="
            )
    if not spans:
        raise UserError(
            f"extend= has nothing to add: the sound is {_shown(given, rate)} s long and seconds=, "
            f"the length of the result, is {_shown(length, rate)}"
        )
    original = pad(init, (0, length - given))  # or cut: a negative pad does
    return Edit(original, tuple(_joined(spans)), max(1, round(FADE * rate)))


def _samples(span: Seconds, length: int, rate: int) -> Span:
    begin, end = span
    if not (math.isfinite(begin) and math.isfinite(end) and begin >= 0):
        raise UserError(f"inpaint={_text(span)} is not a span of seconds from 0 on")
    first, last = round(begin * rate), round(end * rate)
    if first >= last:
        raise UserError(f"inpaint={_text(span)} is empty: it must end after it begins")
    if last > length:
        raise UserError(
            f"inpaint={_text(span)} is not inside the clip, {_shown(length, rate)} s long"
        )
    return first, last


def _joined(spans: list[Span]) -> list[Span]:
    """Spans in order of their beginning, those that meet as one."""
    joined: list[Span] = []
    for first, last in spans:
        if joined and first <= joined[-1][1]:
            before = joined.pop()
            first, last = before[0], max(before[1], last)
        joined.append((first, last))
    return joined


def _text(span: Seconds) -> str:
    return f"{span[0]:g}-{span[1]:g}"


def _shown(samples: int, rate: int) -> str:
    """Seconds, rounded down to a millisecond so that they may be typed as the end of a span."""
    return f"{samples * 1000 // rate / 1000:g}"
