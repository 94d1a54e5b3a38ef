"""Inpainting and outpainting: a clip that is a recording's likeness where that is to be kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glissando.ditto.base import Aim, Sound, Target
from glissando.ditto.stft import LogMel
from glissando.errors import UserError
from glissando.spans import spans_of

BANDS = 80
EXAMPLE = "0-2,4.5-6"


@dataclass(kw_only=True)
class Inpaint(Target):
    """DITTO's inpainting and outpainting: the log-mel spectrograms' distance where it is known.

    DITTO's own model makes such spectrograms, so that this is its masked distance of x_0. The loss
    is a mean square, in dB². What is kept is made again and sounds like the recording; ``inpaint=``
    and ``extend=`` of the command line return it to the bit.

    Args:
        reference: an audio file.
        keep: spans ``from-to`` in seconds of it, commas between them, to be found at the same
            place in the clip.
    """

    reference: str
    keep: str
    tolerance: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.reference or not self.keep:
            raise UserError(
                f"this target needs ditto.reference, an audio file, and ditto.keep={EXAMPLE!r}"
            )
        spans_of(self.keep, "ditto.keep")

    def aim(self, sound: Sound) -> Aim:
        wave = sound.read(self.reference)
        return Likeness(sound, wave, spans_of(self.keep, "ditto.keep"))


class Likeness(Aim):
    """The log-mel spectrogram of clips against that of ``wave`` (1, A, any) within ``keep``."""

    wanted: Tensor
    frames: Tensor

    def __init__(self, sound: Sound, wave: Tensor, keep: list[tuple[float, float]]) -> None:
        super().__init__()
        rate = sound.sample_rate
        self.mel = LogMel(rate, BANDS)
        hop = self.mel.hop
        known = min(wave.shape[-1], sound.length)
        for first, last in keep:
            if first >= last:
                raise UserError(f"ditto.keep: {first:g}-{last:g} is empty: it must end later")
            if last > known / rate + 0.001:
                raise UserError(
                    f"ditto.keep: {first:g}-{last:g} is not inside ditto.reference and the clip, "
                    f"which share {known * 1000 // rate / 1000:g} s"
                )
        times = torch.arange(known // hop + 1) * hop / rate
        mask = torch.zeros_like(times, dtype=torch.bool)
        for first, last in keep:
            mask |= (times >= first) & (times < last)
        if not mask.any():
            raise UserError(f"ditto.keep keeps less than one frame of {hop / rate:.3f} s")
        self.register_buffer("frames", mask.nonzero()[:, 0])
        self.register_buffer("wanted", self.decibels(wave))

    def decibels(self, wave: Tensor) -> Tensor:
        """Wave (B, A, L) -> dB (B, A, BANDS, kept frames)."""
        return self.mel(wave)[..., self.frames]

    def forward(self, wave: Tensor) -> Tensor:
        return (self.decibels(wave) - self.wanted).square().mean((1, 2, 3))
