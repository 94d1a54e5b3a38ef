"""Small callbacks of every run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from glissando.errors import UserError
from glissando.training.progress import say


class Facts(L.Callback):
    """Writes what a checkpoint says of itself into it."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["glissando"] = self.facts
        checkpoint.pop("datamodule_hyper_parameters", None)


class Finite(L.Callback):
    """Stops a run whose loss has become NaN or infinite, every ``every`` steps: one look, no sync
    between."""

    def __init__(self, every: int = 20) -> None:
        self.every = every

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any
    ) -> None:
        loss = trainer.callback_metrics.get("train/loss")
        if trainer.global_step % self.every == 0 and loss is not None and not torch.isfinite(loss):
            raise UserError(
                f"the loss is {float(loss)} at step {trainer.global_step}: lower optimizer.lr, or "
                "trainer.precision=32-true; the last good checkpoint is kept"
            )


class Speed(L.Callback):
    """Logs steps, clips and seconds of audio per second of training since the last log."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self._since: tuple[float, int] | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step % every:
            return
        now = time.perf_counter()
        if self._since is not None and step > self._since[1]:
            rate = (step - self._since[1]) / (now - self._since[0])
            clips = rate * self.batch_size * trainer.world_size
            self.log("speed/steps_per_second", rate)
            self.log("speed/clips_per_second", clips)
            self.log("speed/audio_seconds_per_second", clips * pl_module.seconds(batch))
        self._since = (now, step)

    def on_validation_end(self, *_: Any) -> None:
        self._since = None  # what validation took is not training's speed


class Interrupted(L.Callback):
    """Ctrl-C and fatal errors: saves where training was and says how to go on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, KeyboardInterrupt) and trainer.global_step > 0:
            trainer.save_checkpoint(self.path)
            say(
                f"interrupted at step {trainer.global_step}, saved; go on with the same command "
                f"and ckpt={self.path}"
            )


class Checkpoints(ModelCheckpoint):
    """``last.ckpt`` every n steps, and the best by the monitored metric at each validation.

    Files are written whole under another name and renamed by Lightning's checkpoint IO; names
    hold no ``=``, which Hydra's command line would read as a key.
    """

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(
            dirpath=folder, filename="last", every_n_train_steps=every, save_top_k=1,
            enable_version_counter=False, auto_insert_metric_name=False,
        )  # fmt: skip


class Best(ModelCheckpoint):
    """The best checkpoints by ``monitor`` (lower is better), saved after validations."""

    def __init__(self, folder: Path, monitor: str, keep: int) -> None:
        super().__init__(
            dirpath=folder, filename="best-{step}", monitor=monitor, mode="min",
            save_top_k=keep, auto_insert_metric_name=False, enable_version_counter=False,
            save_on_train_epoch_end=False,
        )  # fmt: skip
