"""Small callbacks of every run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from glissando.training.memory import Peak


class Facts(L.Callback):
    """Writes what a checkpoint says of itself into it."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["glissando"] = self.facts
        checkpoint.pop("datamodule_hyper_parameters", None)


class Speed(L.Callback):
    """Logs steps, clips and seconds of audio per second of training since the last log.

    And the most memory that training has taken so far (see ``Peak``).
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self._since: tuple[float, int] | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._peak = Peak(pl_module.device)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any
    ) -> None:
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step % every:
            return
        now = time.perf_counter()
        if self._since is not None and step > self._since[1]:
            rate = (step - self._since[1]) / (now - self._since[0])
            clips = rate * self.batch_size * trainer.world_size
            pl_module.log("speed/steps_per_second", rate)
            pl_module.log("speed/clips_per_second", clips)
            pl_module.log("speed/audio_seconds_per_second", clips * pl_module.seconds(batch))
            pl_module.log("speed/peak_gib", self._peak.gib)
        self._since = (now, step)

    def on_validation_end(self, *_: Any) -> None:
        self._since = None  # what validation took is not training's speed


class ValidateLast(L.Callback):
    """A run ends with a validation, whatever its length and the interval between validations."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.global_step >= trainer.max_steps > 0:
            trainer.val_check_batch = trainer.fit_loop.epoch_loop.total_batch_idx + 1


class Best(ModelCheckpoint):
    """The best checkpoints by ``monitor`` (lower is better), saved after validations.

    Names hold no ``=``, which Hydra's command line would read as a key.
    """

    def __init__(self, folder: Path, monitor: str, keep: int) -> None:
        super().__init__(
            dirpath=folder, filename="best-{step}", monitor=monitor, mode="min",
            save_top_k=keep, auto_insert_metric_name=False, enable_version_counter=False,
            save_on_train_epoch_end=False,
        )  # fmt: skip
