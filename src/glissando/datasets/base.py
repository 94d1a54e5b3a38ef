"""The nouns of this room: a clip, where clips come from, and a batch of them.

Nothing here imports torch at run time, so that the processes which render and encode clips start
quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SPLITS = ("train", "valid", "test")


class Refused(Exception):
    """Raised by ``Source.make`` for a clip that cannot be used; the text is the reason.

    A reason names the *kind* of fault and not the clip ("shorter than 1 s"), because reports count
    equal reasons; the key of the clip is added by whoever reports.
    """


@dataclass(frozen=True)
class Clip:
    """One piece of audio and what is known of it.

    ``wave`` is (C, L) float32 in [-1, 1]. ``attributes`` is what becomes ``<key>.json``: plain
    JSON values, among them ``caption`` (str), ``seconds_total`` (length of the whole piece),
    ``seconds_start`` (where this clip begins in it, 0 for a whole one) and ``group`` (clips of one
    group are never in two splits).
    """

    key: str
    wave: np.ndarray
    sample_rate: int
    attributes: dict[str, Any] = field(default_factory=dict)


class Job(Protocol):
    """What it takes to make one clip: small, picklable, with a key unique in its dataset."""

    @property
    def key(self) -> str: ...


class Preparable(Protocol):
    """What ``data=`` names: music with settings, of which a dataset folder can be made."""

    name: ClassVar[str]
    """The value of ``data=`` that chooses it."""

    @property
    def access(self) -> Mapping[str, Any] | None:
        """How its bytes are reached where they stay elsewhere; changes no clip."""
        return None

    def settings(self) -> Mapping[str, Any]:
        """Every choice that changes the clips, as plain JSON values (keys named as the flags)."""
        ...

    def prepare(
        self, root: Path | str, workers: int = 1, samples_per_shard: int = 100,
        progress: bool = True, overwrite: bool = False,
    ) -> Any:  # fmt: skip
        """Make the dataset folder ``root``, as `glissando.datasets.prepare.prepare` does."""
        ...


@runtime_checkable
class Source(Preparable, Protocol):
    """Where clips come from: rendered scores, a folder of recordings.

    A source is picklable: ``make`` is called in other processes. It must depend on nothing but
    the job and the settings, so that a prepared dataset is the same whatever the number of
    processes. All its clips have one sample rate and one number of channels.
    """

    def prepare(
        self, root: Path | str, workers: int = 1, samples_per_shard: int = 100,
        progress: bool = True, overwrite: bool = False,
    ) -> Any:  # fmt: skip
        from glissando.datasets.prepare import prepare

        return prepare(self, root, workers, samples_per_shard, progress, overwrite)

    def jobs(self) -> Mapping[str, list[Any]]:
        """The jobs of each split ("train", "valid", "test"), in a fixed order."""
        ...

    def make(self, job: Any) -> Clip:
        """Make one clip; raises ``Refused`` (or any exception: the clip is refused either way)."""
        ...


@dataclass(frozen=True)
class Batch:
    """Clips side by side, as waveforms (B, C, L) float32 or as latents (B, C, F, T) float32.

    ``mask`` is (B, L) for waveforms and (B, T) for latents, True where there is a clip and False
    where there is padding; ``None`` when nothing is padded. ``attributes`` and ``keys`` have one
    entry per row.
    """

    waveform: Tensor | None
    latent: Tensor | None
    attributes: list[dict[str, Any]]
    mask: Tensor | None
    keys: list[str]

    def __len__(self) -> int:
        return len(self.keys)

    def move(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch with its tensors on ``device``."""
        return self._each(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Page-locked tensors; DataLoader(pin_memory=True) calls this by its name."""
        return self._each(lambda x: x.pin_memory())

    def _each(self, change: Any) -> Batch:
        tensors = {"waveform": self.waveform, "latent": self.latent, "mask": self.mask}
        return replace(self, **{k: change(v) for k, v in tensors.items() if v is not None})
