"""A number with a range -> a vector: Stable Audio's timing, tempo, loudness."""

from __future__ import annotations

import logging
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from glissando.condition import Condition, Size, Sizes, Vector
from glissando.conditioners.base import Conditioner, absent_value, rows
from glissando.errors import UserError

log = logging.getLogger(__name__)


class NumberConditioner(Conditioner):
    """Learned Fourier features of a number, as Stable Audio embeds seconds_start and seconds_total.

    x is clamped to [min, max] and mapped to [0, 1]; with f = 2 pi x w (w learned, ``features`` of
    them), the entry is Linear([x, sin f, cos f]) (Evans et al. 2024; the number embedder of Stable
    Audio's published checkpoints, whose shapes these are).

    Args:
        name: of the entry (Vector).
        min, max: range of the number, in its own unit; what is outside is clamped, warned of once.
        dim: D of the entry.
        attribute: key in a clip's attributes; ``name`` by default.
        unconditional: ``kept`` (default, as published for timing), ``zero`` or ``learned``.
        features: number of frequencies.
    """

    def __init__(
        self,
        name: str,
        min: float,
        max: float,
        dim: int = 128,
        attribute: str | None = None,
        unconditional: Literal["zero", "learned", "kept"] = "kept",
        features: int = 128,
    ) -> None:
        super().__init__(attribute or name, unconditional)
        if not min < max:
            raise UserError(f"conditioner.{name}: min={min} must be below max={max}")
        self.name, self.min, self.max, self.dim = name, float(min), float(max), dim
        self.frequencies = nn.Parameter(torch.randn(features))
        self.project = nn.Linear(2 * features + 1, dim)
        absent_value(unconditional, dim, self, "absent_vector")
        self.absent_vector: Tensor
        self._warned = False

    @property
    def sizes(self) -> Sizes:
        return {self.name: Size(Vector, self.dim)}

    def parse(self, value: Any) -> float:
        try:
            number = math.nan if isinstance(value, (bool, str)) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if math.isnan(number):
            raise UserError(f"{self.attribute} is {value!r}, not a number")
        if not self.min <= number <= self.max and not self._warned:
            self._warned = True
            log.warning(
                "%s=%g is outside [%g, %g] and is clamped (said once); conditioner.%s.max=… widens",
                self.attribute,
                number,
                self.min,
                self.max,
                self.name,
            )
        return min(max(number, self.min), self.max)

    def embed(self, values: list[float], frames: int | None = None) -> Condition:
        # In float64 until scaled: 0.1 s in an hour must survive.
        number = torch.tensor(values, dtype=torch.float64)
        x = ((number - self.min) / (self.max - self.min)).to(self.frequencies)
        angle = 2 * math.pi * x[:, None] * self.frequencies
        features = torch.cat([x[:, None], angle.sin(), angle.cos()], dim=1)
        return Condition({self.name: Vector(self.project(features))})

    def absent(self, n: int, frames: int = 1) -> Condition:
        return Condition({self.name: Vector(rows(self.absent_vector, n))})
