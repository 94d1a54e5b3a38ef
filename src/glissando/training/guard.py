"""A loss or a gradient that is not finite costs one step, not the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn

from glissando.datasets.base import Batch
from glissando.errors import UserError
from glissando.training.progress import say


class Guard(L.Callback):
    """Skips the update of a step whose loss or gradient is NaN or infinite, on all ranks alike.

    Such steps are counted (``train/skipped``, also over a resumption), and what they were made of
    is appended to ``skipped.jsonl`` in the run folder, a line for each step and process: step,
    rank, loss and the samples' keys. After ``patience`` of them in a row the weights are the likely
    cause and a UserError stops the run; ``good`` says whether the last step was updated, so that
    no checkpoint is written of what may have gone wrong.

    Under 16-mixed a gradient that overflows is the gradient scaler's business, which lowers its
    scale and skips the update itself; the loss counts here all the same.

    Looking costs one pass over the gradients and, on a GPU, one wait for them in each step.
    """

    def __init__(self, folder: Path, patience: int) -> None:
        self.path, self.patience = folder / "skipped.jsonl", patience
        self.skipped = 0
        self._row = 0  # steps in a row
        self._bad = False  # in the present step
        self._loss: Tensor | None = None  # of the batches in hand, NaN if one of them was
        self._keys: list[str] = []
        self._began = -1

    @property
    def good(self) -> bool:
        """Was the last step an update?"""
        return self._row == 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if self._began != trainer.global_step:
            self._began, self._bad, self._keys = trainer.global_step, False, []
        self._keys += batch.keys

    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor
    ) -> None:
        own = loss.detach()
        self._loss = own if self._loss is None else self._loss + own

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        loss, self._loss = self._loss, None
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        own = loss is None or bool(loss.isfinite())
        finite = own and (_scaled(trainer) or _finite(weights))
        if trainer.world_size > 1:
            finite = trainer.strategy.reduce_boolean_decision(finite, all=True)
        if finite:
            return
        for weight in weights:
            weight.grad = None  # which optimizers pass over, their memory included
        if not own or not self._bad:
            self._write(trainer, None if loss is None else float(loss))
        self._bad = True

    def _write(self, trainer: L.Trainer, loss: float | None) -> None:
        line = {
            "step": trainer.global_step + 1, "rank": trainer.global_rank, "loss": str(loss),
            "keys": self._keys,
        }  # fmt: skip
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.global_step == self._began:
            return  # within an accumulation
        self._row = self._row + 1 if self._bad else 0
        if not self._bad:
            return
        self.skipped += 1
        pl_module.log("train/skipped", float(self.skipped))
        if self._row == 1:
            say(
                f"step {trainer.global_step}: loss or gradient not finite, update skipped "
                f"({self.skipped} so far); its samples: {self.path}"
            )
        if self._row >= self.patience:
            raise UserError(
                f"{self._row} steps in a row, up to {trainer.global_step}, had a loss or gradient "
                "that is NaN or infinite: lower optimizer.lr, or trainer.precision=32-true, and go "
                f"on from the last good checkpoint; the samples are in {self.path}"
            )

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["skipped"] = self.skipped

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.skipped = checkpoint.get("skipped", 0)


def _scaled(trainer: L.Trainer) -> bool:
    plugin = trainer.precision_plugin
    return isinstance(plugin, MixedPrecision) and plugin.scaler is not None


def _finite(weights: list[nn.Parameter]) -> bool:
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    if not gradients:
        return True
    norm = nn.utils.get_total_norm(gradients)
    # Of a sharded model each process holds a part.
    whole = getattr(norm, "full_tensor", None)
    return bool((whole() if whole else norm).isfinite())
