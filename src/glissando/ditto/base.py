"""What a target is: settings of the search, and what a clip is held against."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from glissando.audio import read_audio
from glissando.errors import UserError


class Sound(NamedTuple):
    """The clips at hand: Hz, channels A and samples L."""

    sample_rate: int
    channels: int
    length: int

    @property
    def seconds(self) -> float:
        return self.length / self.sample_rate

    def read(self, file: str) -> Tensor:
        """An audio file as (1, A, at most L), at this rate. Raises UserError, naming the file."""
        path = Path(file).expanduser()
        wave, _ = read_audio(path, self.sample_rate, self.channels, seconds=self.seconds)
        return torch.from_numpy(wave[None, :, : self.length])


class Aim(nn.Module, ABC):
    """L(f(wave), y) of the papers for clips of one ``Sound``: y is in its buffers."""

    @abstractmethod
    def forward(self, wave: Tensor) -> Tensor:
        """Distance (B,) of wave (B, A, L) from what is wanted; its gradient is finite, always."""

    def told(self, wave: Tensor) -> list[dict[str, Any]]:
        """For each clip of wave (B, A, L) what was wanted and what it reached, as plain JSON."""
        return [{} for _ in wave]


@dataclass(kw_only=True)
class Target(ABC):
    """What a clip should become, and how its noise is sought.

    ``loss`` is the least of the search under way, for whoever watches it.

    Args:
        iterations: at most so many times a clip is sampled and differentiated.
        lr: Adam's rate, in standard deviations of the noise.
        tolerance: a clip whose loss has come down to this is done.
        steps: of the sampler during the search (DITTO-2); None: as many as in the end.
        ckpt: a few-step model on the same latents to search with (DITTO-2); None: the model
            itself.

    Raises UserError for values outside their ranges.
    """

    iterations: int = 50
    lr: float = 0.05
    tolerance: float = 0.0
    steps: int | None = None
    ckpt: str | None = None
    loss: float = field(default=math.nan, init=False)

    def __post_init__(self) -> None:
        if type(self.iterations) is not int or self.iterations < 1:
            raise UserError(f"ditto.iterations must be a number from 1, not {self.iterations}")
        if self.steps is not None and (type(self.steps) is not int or self.steps < 1):
            raise UserError(f"ditto.steps must be null or a number from 1, not {self.steps}")
        positive("lr", self.lr)
        if not (isinstance(self.tolerance, int | float) and self.tolerance >= 0):
            raise UserError(f"ditto.tolerance must be at least 0, not {self.tolerance}")

    def work(self, steps: int) -> int:
        """Steps that the search takes at most, where the sampler has ``steps``."""
        return self.iterations * (steps if self.steps is None else self.steps)

    @abstractmethod
    def aim(self, sound: Sound) -> Aim:
        """This target for clips of ``sound``. Raises UserError if it does not fit them."""


def positive(name: str, value: float) -> None:
    """Raises UserError, naming ditto.``name``, unless ``value`` is a number above 0 and finite."""
    if not (isinstance(value, int | float) and 0 < value < math.inf):
        raise UserError(f"ditto.{name} must be above 0 and finite, not {value}")


def either(one: str | None, two: str | None, names: tuple[str, str], example: str) -> None:
    """Raises UserError unless exactly one of two settings is given."""
    if (one is None) == (two is None):
        raise UserError(f"give ditto.{names[0]} or ditto.{names[1]}, one of the two: {example}")
