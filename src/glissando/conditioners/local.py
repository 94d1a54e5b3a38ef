"""A curve over time (melody, dynamics, rhythm) -> an entry aligned with the latent's frames."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from glissando.condition import Condition, Local, Size, Sizes
from glissando.conditioners.base import Attributes, Conditioner, absent_value
from glissando.errors import UserError


class Curve(NamedTuple):
    """A clip's ``columns`` (D, n), of which what begins at ``first`` (a real number) is wanted."""

    columns: Tensor
    first: float


class LocalConditioner(Conditioner):
    """Brings a (D, n) attribute, ``rate`` columns a second from the clip's first sample, to T.

    Each latent frame gets the mean of the attribute over the time it covers, so that a faster
    curve is averaged and not aliased, and a slower one is held. Frames after the curve's end (a
    clip padded in its batch) get the absent value. ``align`` tells the latent's rate, and by how
    much its frames lie before their blocks (``Representation.lead``). The curve is that of the
    stored clip: where a crop begins in it is the attribute ``crop_start`` (seconds).

    Args:
        name: of the entry (Local).
        dim: D; a curve of one dimension may be given as (n,).
        rate: columns a second.
        attribute: key in a clip's attributes; ``name`` by default.
        unconditional: ``zero`` (default), ``learned`` or ``kept``.
        center, scale: the entry is (curve - center) / scale, which should be of size 1.
        known: one more feature, 1 where the curve is given and 0 where it is not: a curve that is
            zero is then another thing than none.
        mask: probability that, in training, a clip's curve is not given over a stretch of time, so
            that part of a curve can be asked for (after Music ControlNet). The stretch is 10 to
            90 % of the clip, uniformly, anywhere in it.
    """

    def __init__(
        self,
        name: str,
        dim: int,
        rate: float,
        attribute: str | None = None,
        unconditional: Literal["zero", "learned", "kept"] = "zero",
        center: float = 0.0,
        scale: float = 1.0,
        known: bool = False,
        mask: float = 0.0,
    ) -> None:
        super().__init__(attribute or name, unconditional)
        if rate <= 0:
            raise UserError(f"conditioner.{name}.rate={rate} must be above 0 (columns a second)")
        if not scale > 0:
            raise UserError(f"conditioner.{name}.scale={scale} must be above 0")
        if not 0 <= mask <= 1:
            raise UserError(f"conditioner.{name}.mask={mask} must be between 0 and 1")
        self.name, self.dim, self.rate = name, dim, float(rate)
        self.center, self.scale, self.known, self.mask = center, scale, known, mask
        self.latent_rate: float | None = None
        self.lead = 0.0
        absent_value(unconditional, dim + known, self, "absent_vector")
        self.absent_vector: Tensor

    @property
    def sizes(self) -> Sizes:
        return {self.name: Size(Local, self.dim + self.known)}

    def align(self, latent_rate: float, lead: float = 0.0) -> None:
        self.latent_rate, self.lead = latent_rate, lead

    def parse(self, value: Any) -> Tensor:
        try:
            curve = torch.as_tensor(value, dtype=torch.float64, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{self.attribute} is not an array of numbers: {error}") from error
        curve = curve.unsqueeze(0) if curve.ndim == 1 else curve
        if curve.ndim != 2 or curve.shape[0] != self.dim or not curve.shape[1]:
            raise UserError(
                f"{self.attribute} has shape {tuple(curve.shape)}, "
                f"conditioner.{self.name}.dim={self.dim} wants ({self.dim}, columns)"
            )
        return curve

    def _value(self, attributes: Attributes) -> Curve | None:
        columns = super()._value(attributes)
        if columns is None:
            return None
        return Curve(columns, float(attributes.get("crop_start", 0.0)) * self.rate)

    def embed(self, values: list[Curve], frames: int | None = None) -> Condition:
        if self.latent_rate is None:
            raise ValueError(f"{self.name}: call align(latent_rate) before the first batch")
        step = self.rate / self.latent_rate  # columns a latent frame
        if frames is None:
            longest = max(curve.columns.shape[1] - curve.first for curve in values)
            frames = max(1, math.ceil(longest / step))
        absent = self.absent_vector
        rows = []
        for curve in values:
            first = curve.first - self.lead * step
            mean, covered = frame_means(curve.columns, step, frames, first)
            row = (mean - self.center) / self.scale
            if self.known:
                row = torch.cat([row, torch.ones_like(row[:1])])
            if self.training:
                covered &= ~self._hidden(frames)
            rows.append(torch.where(covered.to(absent.device), row.to(absent), absent[:, None]))
        return Condition({self.name: Local(torch.stack(rows).unsqueeze(2))})

    def _hidden(self, frames: int) -> Tensor:
        """(frames,) True where the curve of this clip is not told."""
        hides, share, place = torch.rand(3).tolist()
        length = round((0.1 + 0.8 * share) * frames) if hides < self.mask else 0
        first = int(place * (frames - length + 1))
        time = torch.arange(frames)
        return (time >= first) & (time < first + length)

    def absent(self, n: int, frames: int = 1) -> Condition:
        value = self.absent_vector.view(1, -1, 1, 1).expand(n, -1, 1, frames)
        return Condition({self.name: Local(value)})


def frame_means(
    curve: Tensor, step: float, frames: int, first: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Means of a piecewise constant curve (D, n) over frames of ``step`` columns from ``first`` on.

    Returns (D, frames) and a (frames,) bool, False where a frame lies wholly outside the curve. The
    mean is the difference of the curve's integral, which is piecewise linear between columns.
    """
    columns = curve.shape[1]
    integral = torch.nn.functional.pad(curve.cumsum(1), (1, 0))  # (D, n + 1)
    edges = (first + torch.arange(frames + 1, dtype=curve.dtype) * step).clamp(0, columns)
    left = edges.floor().clamp(max=columns - 1).long()
    at_edges = torch.lerp(integral[:, left], integral[:, left + 1], edges - left)
    width = edges.diff()
    covered = width > 1e-6
    return at_edges.diff(dim=1) / width.clamp(min=1e-6), covered
