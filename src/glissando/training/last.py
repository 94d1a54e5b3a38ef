"""The checkpoint that a run goes on from, and the signals that ask for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from glissando.training.progress import say
from glissando.training.safe_io import keep_previous

# Before a job's time is up or its place is taken, Slurm sends what it was told to: USR1 by custom,
# USR2 from submitit.
PREEMPTING = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)]


class Preempted(BaseException):
    """The run was asked for its place, and has saved; ``number`` is the signal.

    ``before`` is the handler that was there before training (submitit's puts the job in the queue
    again).
    """

    def __init__(self, number: int, before: Any) -> None:
        super().__init__(f"signal {number}")
        self.number, self.before = number, before


class Last(Checkpoint):
    """``last.ckpt`` every ``every`` steps (0: never), at the end, on Ctrl-C and before preemption.

    Ctrl-C lets the step in hand end, so that what is saved lies between two steps and resuming it
    continues exactly; a second one stops at once and saves nothing. SIGUSR1 and SIGUSR2 do as much
    and raise ``Preempted``; it is enough that one of the processes gets them. Where a validation
    follows the step, the file is written after it: latent statistics are measured there, and a run
    that is killed in the middle makes it again (Lightning does not validate first when it resumes).
    Other than ``ModelCheckpoint`` it never saves within an accumulation of gradients.

    What it replaces stays beside it as ``previous.ckpt``, for the day on which the disk damages the
    newest. ``good`` says whether the weights may be kept; where not, nothing is written.
    """

    def __init__(self, path: Path, every: int, good: Callable[[], bool] = lambda: True) -> None:
        self.path, self.every, self.good = path, every, good
        self.last_model_path = ""  # where loggers look, as in ModelCheckpoint
        self._began = -1  # global step in front of the present batch
        self._saved = -1
        self._due = False  # after the validation that follows the step
        self._asked = 0  # the signal
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *PREEMPTING):
                self._handlers[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, *_: Any) -> None:
        if number == signal.SIGINT == self._asked:
            raise KeyboardInterrupt
        self._asked = number
        again = " (Ctrl-C again: at once, without saving)" if number == signal.SIGINT else ""
        say(f"stopping after this step{again}")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any
    ) -> None:
        if self._asked and self._saved == trainer.global_step:
            if self._asked == signal.SIGINT:
                raise KeyboardInterrupt
            raise Preempted(self._asked, self._handlers.get(self._asked))
        self._began = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if step == self._began:
            return
        if trainer.world_size > 1:  # saving is done together: by all ranks after the same step
            self._asked = _largest(trainer, self._asked)
        if self._asked or (self.every and step % self.every == 0):
            self._due = _validates(trainer)
            if not self._due:
                self._save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._due:
            self._save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._saved != trainer.global_step:
            self._save(trainer)
        self._restore_handlers()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, SIGTERMException) and not trainer.validating:
            self._save(trainer)  # Lightning raises it between two steps
        broken_off = isinstance(exception, (KeyboardInterrupt, SIGTERMException, Preempted))
        if broken_off and self._saved > 0:
            say(
                f"stopped at step {trainer.global_step}, saved at {self._saved}; go on with the "
                f"same command and ckpt={self.path}"
            )
        self._restore_handlers()

    def _save(self, trainer: L.Trainer) -> None:
        if not self.good():
            return
        if trainer.is_global_zero and self._saved != trainer.global_step:
            keep_previous(self.path)
        self._saved, self._due = trainer.global_step, False
        trainer.save_checkpoint(self.path)
        self.last_model_path = str(self.path)
        for logger in trainer.loggers:
            logger.after_save_checkpoint(self)  # type: ignore[arg-type]

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def _validates(trainer: L.Trainer) -> bool:
    """Does a validation follow the batch in hand?"""
    batches, every = trainer.fit_loop.epoch_loop.total_batch_idx + 1, trainer.val_check_batch
    return trainer.enable_validation and every is not None and batches % every == 0


def _largest(trainer: L.Trainer, number: int) -> int:
    """The largest of all processes' numbers."""
    import torch

    device = trainer.strategy.root_device
    found = trainer.strategy.reduce(torch.tensor(number, device=device), reduce_op="max")
    return int(found)
