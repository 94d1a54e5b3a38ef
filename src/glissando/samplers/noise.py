"""One source of noise per clip, so that a clip does not depend on the batch it is made in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glissando.samplers.brownian import Brownian


class ClipNoise:
    """Unit noise (B, C, F, T) for B ``seeds`` and the ``shape`` (C, F, T) of one clip.

    Each call draws anew. Numbers are drawn on the host, so a seed means the same clip on every
    device; the copy is pinned where it goes to a GPU and does not wait for it.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.seeds, self.shape = list(seeds), tuple(shape)
        self.device, self.dtype = torch.device(device), dtype
        self._generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        self._brownian = Brownian(self._node)

    def __call__(self) -> Tensor:
        """New unit noise (B, C, F, T)."""
        return self._ship(
            [torch.randn(self.shape, generator=g, dtype=self.dtype) for g in self._generators]
        )

    def between(self, start: float, end: float) -> Tensor:
        """The Brownian path's increment from ``start`` to ``end`` in [0, 1], scaled to unit.

        The path is a function of the seeds alone: samplers with more steps see it more finely.
        """
        return self._brownian(start, end)

    def _node(self, number: int) -> Tensor:
        """Unit noise that belongs to one node of the Brownian tree, whenever it is asked for."""
        clips: list[Tensor] = []
        for seed in self.seeds:
            generator = torch.Generator().manual_seed(scramble(seed, number))
            clips.append(torch.randn(self.shape, generator=generator, dtype=self.dtype))
        return self._ship(clips)

    def _ship(self, clips: list[Tensor]) -> Tensor:
        noise = torch.stack(clips)
        if self.device.type == "cuda":
            noise = noise.pin_memory()
        return noise.to(self.device, self.dtype, non_blocking=True)


def scramble(seed: int, number: int) -> int:
    """One seed out of two numbers (the finalizer of splitmix64)."""
    x = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return (x ^ (x >> 31)) % 2**32  # torch's host generator reads 32 bits
