"""How many latents a sampler keeps alive, counted operation by operation."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from glissando.diffusion.estimate import Estimate


class Alive(TorchDispatchMode):
    """Inside the ``with``, the bytes of every storage that an operation has made and that lives.

    Seen below autograd, where composite operations have come apart, so temporaries count too; a
    view shares its storage and counts nothing. ``most`` is the largest sum so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.now = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._add(tensor)
        self.most = max(self.most, self.now)
        return out

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata  # the address of the storage itself, unique while it lives
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.now += self.sizes[key]
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self.sizes.pop(key)

    def bytes_of(self, tensors: Iterable[Tensor]) -> int:
        """Of the storages of ``tensors``, those that are counted."""
        keys = {tensor.untyped_storage()._cdata for tensor in tensors}
        return sum(self.sizes.get(key, 0) for key in keys)


class Held:
    """A denoiser that answers with two new tensors and sees what is alive when it is called.

    ``held`` is the most latents at the time of a call, beyond z, which any network is given: what
    a sampler adds to the memory that the network alone would need. The noise that the caller gave
    counts. Each call's ``answers`` (x_0, eps), each (B, C, F, T), are copied, as a network makes
    its own; what a sampler still keeps of them at the next call is the sampler's.
    """

    def __init__(self, alive: Alive, answers: Estimate) -> None:
        self.alive, self.answers = alive, answers
        self.held = 0.0

    def __call__(self, z: Tensor, t: Tensor) -> Estimate:
        latent = z.numel() * z.element_size()
        beyond = self.alive.now - self.alive.bytes_of([z])
        self.held = max(self.held, beyond / latent)
        return Estimate(*(answer.clone() for answer in self.answers))
