"""Structure: a clip whose parts resemble each other as those of a form or of a recording."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from glissando.ditto.base import Aim, Sound, Target, either, positive
from glissando.ditto.points import held, points
from glissando.ditto.stft import LogMel
from glissando.errors import UserError

BANDS = 40
CEPSTRA = 20
EXAMPLE = "0:A 2:B 4:A"


@dataclass(kw_only=True)
class Structure(Target):
    """DITTO's musical structure: the self-similarity of timbre, frame by frame.

    Timbre is the mel cepstrum without its first coefficient (loudness), averaged over ``every``
    seconds; similarity is the cosine. The loss is the mean square over all pairs of moments.

    Args:
        form: ``seconds:letter``, each until the next. Moments of one letter are to have a
            similarity of 1, others of 0.
        reference: an audio file whose own similarities are followed, as far as it goes.
        every: seconds of one moment.
    """

    form: str | None = None
    reference: str | None = None
    every: float = 0.5
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        either(self.form, self.reference, ("form", "reference"), f"ditto.form={EXAMPLE!r}")
        positive("every", self.every)
        if self.form is not None:
            points(self.form, "ditto.form", EXAMPLE)

    def aim(self, sound: Sound) -> Aim:
        similarity = Similarity(sound, self.every)
        if self.reference is not None:
            wave = sound.read(self.reference)
            part = Similarity(sound._replace(length=wave.shape[-1]), self.every)
            wanted = part.matrix(wave)[0]
        else:
            marks = points(self.form or "", "ditto.form", EXAMPLE)
            # A moment belongs to the part in which its middle lies.
            letters = held(marks, [(k + 0.5) * self.every for k in range(similarity.moments)])
            wanted = torch.tensor([[float(a == b) for a in letters] for b in letters])
        if len(wanted) < 2:
            raise UserError(
                f"structure needs two moments of ditto.every ({self.every:g} s) or more: "
                "longer clips, or a smaller ditto.every"
            )
        similarity.wanted = wanted
        return similarity


class Similarity(Aim):
    """The self-similarity of clips against ``wanted`` (M, M), M moments from the beginning."""

    wanted: Tensor
    cosines: Tensor

    def __init__(self, sound: Sound, every: float) -> None:
        super().__init__()
        self.mel = LogMel(sound.sample_rate, BANDS)
        frames = sound.length // self.mel.hop + 1
        self.group = max(1, round(every * sound.sample_rate / self.mel.hop))
        self.moments = max(1, round(frames / self.group))
        self.register_buffer("cosines", dct(BANDS)[1:CEPSTRA])
        self.register_buffer("wanted", torch.eye(self.moments))

    def timbre(self, wave: Tensor) -> Tensor:
        """Wave (B, A, L) -> cepstra of unit length (B, M, CEPSTRA - 1)."""
        decibels = self.mel(wave).mean(1)
        cepstra = self.cosines.to(decibels) @ decibels
        short = self.moments * self.group - cepstra.shape[-1]  # < 0: a last part of a moment
        cepstra = pad(cepstra, (0, short), mode="replicate" if short > 0 else "constant")
        means = cepstra.unflatten(2, (self.moments, self.group)).mean(3)
        return normalize(means.mT, dim=2, eps=0.1)  # dB; silence has none

    def matrix(self, wave: Tensor) -> Tensor:
        """Wave (B, A, L) -> cosines (B, M, M)."""
        timbre = self.timbre(wave)
        return timbre @ timbre.mT

    def forward(self, wave: Tensor) -> Tensor:
        known = len(self.wanted)
        return (self.matrix(wave)[:, :known, :known] - self.wanted).square().mean((1, 2))


def dct(size: int) -> Tensor:
    """The orthonormal DCT-II as (size, size): row k is its k-th cosine."""
    k = torch.arange(size, dtype=torch.float64)
    rows = torch.cos(math.pi / size * (k + 0.5) * k[:, None]) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows.float()
