"""Small callbacks of every run."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from glissando.training.memory import Peak
from glissando.training.progress import say
from glissando.training.safe_io import keep_previous


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


class Last(Checkpoint):
    """``last.ckpt`` every ``every`` steps (0: never), at the end, and on Ctrl-C.

    Ctrl-C lets the step in hand end, so that what is saved lies between two steps and resuming it
    continues exactly; a second one stops at once and saves nothing. Where a validation follows the
    step, the file is written again after it: latent statistics are measured there. Other than
    ``ModelCheckpoint`` it never saves within an accumulation of gradients.

    What it replaces stays beside it as ``previous.ckpt``, for the day on which the disk damages the
    newest. ``good`` says whether the weights may be kept; where not, nothing is written.
    """

    def __init__(self, path: Path, every: int, good: Callable[[], bool] = lambda: True) -> None:
        self.path, self.every, self.good = path, every, good
        self._began = -1  # global step in front of the present batch
        self._saved = -1
        self._asked = False
        self._handler: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, self._ask)

    def _ask(self, *_: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        say("stopping after this step (Ctrl-C again: at once, without saving)")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any
    ) -> None:
        if self._asked and self._saved == trainer.global_step:
            raise KeyboardInterrupt
        self._began = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if step == self._began:
            return
        if trainer.world_size > 1:  # saving is done together: by all ranks after the same step
            self._asked = trainer.strategy.reduce_boolean_decision(self._asked, all=False)
        if self._asked or (self.every and step % self.every == 0):
            self._save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._saved == trainer.global_step and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._saved != trainer.global_step:
            self._save(trainer)
        self._restore_handler()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, SIGTERMException) and not trainer.validating:
            self._save(trainer)  # Lightning raises it between two steps
        if isinstance(exception, (KeyboardInterrupt, SIGTERMException)) and self._saved > 0:
            say(
                f"stopped at step {trainer.global_step}, saved at {self._saved}; go on with the "
                f"same command and ckpt={self.path}"
            )
        self._restore_handler()

    def _save(self, trainer: L.Trainer) -> None:
        if not self.good():
            return
        if trainer.is_global_zero and self._saved != trainer.global_step:
            keep_previous(self.path)
        self._saved = trainer.global_step
        trainer.save_checkpoint(self.path)

    def _restore_handler(self) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None


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
