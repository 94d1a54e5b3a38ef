"""An exponential moving average of the weights, counted in batches."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from glissando.errors import UserError


class EMA(L.Callback):
    """Keeps a twin of ``module.averaged``'s parameters and validates with it.

    twin <- twin + (1 - d) (weights - twin) after every batch, with d = min(decay,
    (1 + n) / (10 + n)) so that the first n steps are not haunted by the initialization. The twin
    is written into the checkpoint under ``ema``, by parameter name; ``sample.py`` prefers it.

    Lightning's own averaging deep-copies the module (fails when sharded) and with two optimizers
    can silently do nothing; one fused ``lerp`` works for both and costs one pass over the weights.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"ema must be from 0 to below 1, or null for none, not {decay}")
        self.decay = decay
        self.updates = 0
        self.twin: list[Tensor] = []
        self.names: list[str] = []
        self._restored: dict[str, Tensor] | None = None
        self._swapped = False

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        named: dict[str, Tensor] = dict(pl_module.averaged.named_parameters())
        self.names = list(named)
        restored, self._restored = self._restored or {}, None
        self.twin = [restored.get(name, p).detach().to(p).clone() for name, p in named.items()]

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = [p.detach() for p in pl_module.averaged.parameters()]
        torch._foreach_lerp_(self.twin, weights, 1 - decay)  # type: ignore[attr-defined]

    def _swap(self, pl_module: Any) -> None:
        for mine, weights in zip(self.twin, pl_module.averaged.parameters(), strict=True):
            kept = weights.detach().clone()
            weights.data.copy_(mine)
            mine.copy_(kept)
        self._swapped = not self._swapped

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if self.twin:
            self._swap(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if self._swapped:
            self._swap(pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Interrupted during validation: the checkpoint of the emergency is of the real weights."""
        if self._swapped:
            self._swap(pl_module)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["ema"] = dict(zip(self.names, self.twin, strict=True))
        checkpoint["ema_updates"] = self.updates

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        self._restored = checkpoint.get("ema")
        self.updates = checkpoint.get("ema_updates", 0)
