"""Factors of the learning rate by step."""

from __future__ import annotations

import math
from typing import Protocol

from glissando.errors import UserError


class Schedule(Protocol):
    """step (0, 1, ...) -> factor of the base learning rate in [0, 1]."""

    def __call__(self, step: int) -> float: ...


class Cosine:
    """Linear warm-up over ``warmup`` steps, then half a cosine down to ``floor`` at ``steps``."""

    def __init__(self, steps: int, warmup: int = 0, floor: float = 0.0) -> None:
        if steps <= 0:
            raise UserError(
                f"schedule.steps={steps}: without trainer.max_steps choose schedule=constant"
            )
        self.steps, self.warmup, self.floor = steps, warmup, floor

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.floor + (1 - self.floor) * cosine


class InversePower:
    """(1 - decay^(step+1)) (1 + step / gamma)^-power: Stable Audio's InverseLR with its warm-up."""

    def __init__(
        self, gamma: float = 1e6, power: float = 0.5, decay: float = 0.99, warmup: int = 0
    ) -> None:
        self.gamma, self.power, self.decay, self.warmup = gamma, power, decay, warmup

    def __call__(self, step: int) -> float:
        linear = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return linear * (1 - self.decay ** (step + 1)) * (1 + step / self.gamma) ** -self.power


class Constant:
    """Linear warm-up over ``warmup`` steps, then 1."""

    def __init__(self, warmup: int = 0) -> None:
        self.warmup = warmup

    def __call__(self, step: int) -> float:
        return min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
