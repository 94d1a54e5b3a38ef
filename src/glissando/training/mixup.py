"""Beat-synchronous mixup of latents (MusicLDM; Chen et al. 2023, arXiv:2308.01546)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from glissando.errors import UserError


class BeatMixup:
    """Clips of a batch take in another of nearly the same tempo, laid beat on beat.

    With probability ``p`` a clip a becomes lambda a + (1 - lambda) b where b sounds, lambda the
    larger part of a draw from Beta(5, 5), as in MusicLDM. So what is known of a (caption, timing,
    curves) says of the mixture what is most of it, and no caption has to be invented; MusicLDM
    conditions on the mixture's own CLAP embedding, which a text encoder does not have. b is any
    other clip of the batch whose ``bpm`` is within ``tolerance``; moved by whole frames so that its
    first ``beats`` (seconds in the stored clip) meets a's; in MusicLDM downbeats meet, of clips
    that are grouped by tempo. Clips without either stay as they are.

    All draws come from torch's generator, which training seeds for every batch.

    Raises UserError where p is no probability or the tolerance negative.
    """

    def __init__(self, p: float = 0.0, tolerance: float = 0.05) -> None:
        if not 0 <= p <= 1:
            raise UserError(f"diffusion.mixup.p={p} must be between 0 and 1")
        if not 0 <= tolerance < 1:
            raise UserError(f"diffusion.mixup.tolerance={tolerance} must be from 0 to below 1")
        self.p, self.tolerance = p, tolerance

    def __call__(
        self, x_0: Tensor, attributes: Sequence[Mapping[str, Any]], rate: float,
        mask: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Latents (B, C, F, T) of ``rate`` frames a second, mask (B, T) -> mixed, as they came."""
        if self.p == 0:
            return x_0
        mixed = x_0.clone()
        frames = x_0.shape[-1]
        for row, own in enumerate(attributes):
            chance, choice, share = self.draw()
            able = [k for k, other in enumerate(attributes) if k != row and self.fits(own, other)]
            if chance >= self.p or not able:
                continue
            partner = able[int(choice * len(able))]
            shift = round((first_beat(own) - first_beat(attributes[partner])) * rate)
            time = torch.arange(frames, device=x_0.device)
            heard = (time - shift >= 0) & (time - shift < frames)
            if mask is not None:
                heard &= mask[row] & mask[partner].roll(shift)
            both = share * x_0[row] + (1 - share) * x_0[partner].roll(shift, -1)
            mixed[row] = torch.where(heard, both, x_0[row])
        return mixed

    def draw(self) -> tuple[float, float, float]:
        """(whether, which, lambda): two uniform in [0, 1) and lambda in [0.5, 1)."""
        chance, choice = torch.rand(2, dtype=torch.float64).tolist()
        share = torch.distributions.Beta(5.0, 5.0).sample().item()
        return chance, choice, max(share, 1 - share)

    def fits(self, a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
        """Do both have beats, and nearly the same tempo?"""
        if not all(each.get("bpm") and beats_of(each) for each in (a, b)):
            return False
        return abs(a["bpm"] - b["bpm"]) <= self.tolerance * min(a["bpm"], b["bpm"])


def beats_of(attributes: Mapping[str, Any]) -> list[float]:
    """Seconds from the crop's beginning of the beats that lie after it."""
    start = attributes.get("crop_start", 0.0)
    return [beat - start for beat in attributes.get("beats") or () if beat >= start]


def first_beat(attributes: Mapping[str, Any]) -> float:
    return beats_of(attributes)[0]
