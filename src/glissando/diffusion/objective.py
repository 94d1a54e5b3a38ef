"""Path, parameterization, levels and weighting together: what ``objective=`` chooses."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from glissando.diffusion.denoiser import Denoiser
from glissando.diffusion.levels import Levels
from glissando.diffusion.parameterization import Parameterization
from glissando.diffusion.path import Path
from glissando.diffusion.weighting import Unit, Weighting


@dataclass
class Objective:
    """How a network is trained; ``denoiser`` wraps one accordingly."""

    path: Path
    parameterization: Parameterization
    levels: Levels
    weighting: Weighting = field(default_factory=Unit)

    def denoiser(self, network: nn.Module) -> Denoiser:
        return Denoiser(network, self.path, self.parameterization, self.weighting)

    def notes(self) -> list[str]:
        """What the user should know of this combination, one line each; empty for a sound one."""
        low, high = self.parameterization.limits(self.path)
        names = f"{type(self.parameterization).__name__} on the {type(self.path).__name__} path"
        notes: list[str] = []
        if low > 0:
            notes.append(
                f"{names} is infinite at t = 0 (sigma' diverges), so t is capped from below at "
                f"{low:.2g}; objective/parameterization=v has no such end"
            )
        if high < self.path.limit:
            notes.append(
                f"{names} is undefined at t = {self.path.end:g} (alpha = 0: z holds no data to "
                f"divide out), so t is capped at {high:.4g}; objective/parameterization=v has no "
                "such end"
            )
        beyond = self._beyond()
        if beyond > 0:
            notes.append(
                f"objective.levels asks in {beyond:.1%} of draws for more noise than the "
                f"{type(self.path).__name__} path holds; they are made at its end"
            )
        return notes

    def _beyond(self) -> float:
        """The share of the levels' law that a bounded path can only answer with its end."""
        u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
        t = self.levels(self.path, u, torch.full_like(u, 1024))
        return (t >= self.path.limit).double().mean().item()
