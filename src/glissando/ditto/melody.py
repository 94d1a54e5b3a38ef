"""Melody: a clip whose strongest pitch class at each moment is the one of a tune."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glissando.controls.melody import HIGHEST, pitch_classes
from glissando.ditto.base import Aim, Sound, Target, either
from glissando.ditto.points import held, points
from glissando.ditto.stft import SILENCE, power, size
from glissando.errors import UserError

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
EXAMPLE = "0:C 0.5:E 1:G 2:-"
_NOTE = re.compile(r"([A-Ga-g])([#b]?)(-?\d)?")


@dataclass(kw_only=True)
class Melody(Target):
    """DITTO's melody, after Music ControlNet's: the likelihood of a tune in the chroma.

    The share of each pitch class in the power above ``low`` is taken for its probability; the loss
    is the mean of -log p of the wanted one, in nats, over the frames that have a note. log 12 = 2.5
    is what white noise gets.

    Args:
        notes: ``seconds:note``, each until the next; ``-`` is a rest, where nothing is wanted.
            Octaves (``F#5``) may be written and are of no account.
        reference: an audio file; its strongest pitch class is the tune, as far as it goes.
        low: Hz, below which is accompaniment; Music ControlNet's is middle C.
    """

    notes: str | None = None
    reference: str | None = None
    low: float = 261.6
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        either(self.notes, self.reference, ("notes", "reference"), f"ditto.notes={EXAMPLE!r}")
        if not (isinstance(self.low, int | float) and 0 < self.low < HIGHEST / 2):
            raise UserError(f"ditto.low must be Hz above 0 and below 2093, not {self.low}")
        if self.notes is not None:
            self._marks()

    def aim(self, sound: Sound) -> Aim:
        tune = Tune(sound, self.low)
        if self.reference is not None:
            tune.wanted = tune.strongest(sound.read(self.reference))[0]
        else:
            names = held(self._marks(), tune.times)
            tune.wanted = torch.tensor(
                [-1 if name is None else pitch_class(name) for name in names]
            )
        if bool((tune.wanted < 0).all()):
            raise UserError(
                "the tune is silent within the clip: give other ditto.notes, another "
                "ditto.reference, or a lower ditto.low"
            )
        return tune

    def _marks(self) -> list[tuple[float, str]]:
        marks = points(self.notes or "", "ditto.notes", EXAMPLE)
        for _, name in marks:
            pitch_class(name)
        return marks


class Tune(Aim):
    """The chroma of clips against ``wanted`` (T,): pitch classes from 0 = C, -1 where none is."""

    wanted: Tensor
    weights: Tensor

    def __init__(self, sound: Sound, low: float) -> None:
        super().__init__()
        self.n_fft = size(sound.sample_rate, 5.0)
        self.hop = self.n_fft // 4
        self.step = self.hop / sound.sample_rate
        self.times = [k * self.step for k in range(sound.length // self.hop + 1)]
        hz = torch.arange(self.n_fft // 2 + 1) * sound.sample_rate / self.n_fft
        # From half a semitone lower on, so that a note on the edge is heard whole.
        heard = hz >= low * 2 ** (-0.5 / 12)
        weights = pitch_classes(sound.sample_rate, self.n_fft) * heard
        self.register_buffer("weights", weights)
        self.register_buffer("wanted", torch.full((len(self.times),), -1))

    def chroma(self, wave: Tensor) -> Tensor:
        """Wave (B, A, L) -> the power of each pitch class, of all channels, (B, 12, T)."""
        return self.weights.to(wave) @ power(wave, self.n_fft, self.hop).mean(1)

    def forward(self, wave: Tensor) -> Tensor:
        frames = len(self.wanted)
        chance = self.chroma(wave)[..., :frames] + SILENCE
        share = chance.log() - chance.sum(1, keepdim=True).log()
        sung = self.wanted >= 0
        found = share.gather(1, self.wanted.clamp(min=0).expand(len(wave), 1, frames))[:, 0]
        return -found[:, sung].mean(1)

    def strongest(self, wave: Tensor) -> Tensor:
        """(B, T): the strongest pitch class, -1 in silence."""
        chroma = self.chroma(wave)
        loudest, which = chroma.max(1)
        return torch.where(loudest > SILENCE, which, -1)

    def told(self, wave: Tensor) -> list[dict[str, Any]]:
        sung = self.wanted >= 0
        rows = self.strongest(wave)[:, : len(self.wanted)]
        return [
            {"every": self.step, "wanted": spelt(self.wanted), "reached": spelt(row),
             "right": float((row == self.wanted)[sung].float().mean())}
            for row in rows
        ]  # fmt: skip


def spelt(classes: Tensor) -> list[str]:
    return ["-" if each < 0 else NAMES[each] for each in classes.tolist()]


def pitch_class(name: str) -> int:
    """0 to 11 of ``C``, ``f#``, ``Bb4``; -1 of a rest. Raises UserError for anything else."""
    if name == "-":
        return -1
    match = _NOTE.fullmatch(name)
    if match is None:
        raise UserError(f"ditto.notes: {name!r} is no note, as in ditto.notes={EXAMPLE!r}")
    return (NAMES.index(match[1].upper()) + {"#": 1, "b": -1, "": 0}[match[2]]) % 12
