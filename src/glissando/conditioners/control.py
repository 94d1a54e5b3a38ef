"""A curve computed from a clip's own audio, or from another's that is to be followed."""

from __future__ import annotations

from typing import Any

from glissando.conditioners.local import LocalConditioner
from glissando.controls import Control


class ControlConditioner(LocalConditioner):
    """A ``LocalConditioner`` of what ``control`` computes, and called as that.

    The curve is the attribute ``control.name``. In training it was computed when the latents were
    cached; to sample, from the sound that is followed, unless it is given as numbers.

    Args:
        control: audio -> curve.
        options: as ``LocalConditioner`` takes them.
    """

    def __init__(self, control: Control, **options: Any) -> None:
        super().__init__(control.name, control.dim, control.rate, **{"known": True, **options})
        self.control = control
