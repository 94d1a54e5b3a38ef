"""Small callbacks of every run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from glissando.training.memory import Peak
from glissando.training.peak import peak_tflops


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

    Also the most memory that training has taken so far (see ``Peak``), the operations of each
    device (``speed/tflops``: three times a forward pass, as the backward pass costs two; what a
    network recomputes, losses and adversaries are not counted), and what share of the device's peak
    they are, model FLOPs utilization (``speed/mfu``; Chowdhery et al. 2022, "PaLM", appendix B).

    Args:
        batch_size: clips of a process and batch. batches: of a step.
        peak: TFLOP/s; None: what is known of the device, no ``mfu`` where that is nothing.
    """

    forward: int = 0  # operations of one clip, told once they are known

    def __init__(self, batch_size: int, batches: int = 1, peak: float | None = None) -> None:
        self.clips, self.peak = batch_size * batches, peak
        self._since: tuple[float, int] | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._memory = Peak(pl_module.device)
        if self.peak is None:
            self.peak = peak_tflops(pl_module.device, str(trainer.precision))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any
    ) -> None:
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step % every:
            return
        now = time.perf_counter()
        if self._since is not None and step > self._since[1]:
            rate = (step - self._since[1]) / (now - self._since[0])
            clips = rate * self.clips * trainer.world_size
            tflops = 3 * self.forward * rate * self.clips / 1e12
            pl_module.log("speed/steps_per_second", rate)
            pl_module.log("speed/clips_per_second", clips)
            pl_module.log("speed/audio_seconds_per_second", clips * pl_module.seconds(batch))
            pl_module.log("speed/peak_gib", self._memory.gib)
            pl_module.log("speed/tflops", tflops)
            if self.peak:
                pl_module.log("speed/mfu", tflops / self.peak)
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
