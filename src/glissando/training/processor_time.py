"""The processor time that training takes: told in every checkpoint, and limited where asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L


class ProcessorTime(L.Callback):
    """Counts core-seconds: seconds of this process on all cores together.

    Steps, reading for them (in this process, hence ``loader.workers=0`` where all shall count) and
    checkpoints count, validations do not. So a busy machine or more threads change nothing of what
    a run is given. It says little of a GPU's work: limit that by ``trainer.max_time``.

    Args:
        facts: what the checkpoint says of itself; ``core_seconds`` is put there.
        limit: core-seconds after which training ends, all processes together; None: no limit.
    """

    def __init__(self, facts: dict[str, Any], limit: float | None = None) -> None:
        self._facts, self.limit = facts, limit
        self._spent = 0.0
        self._since: float | None = None

    @property
    def spent(self) -> float:
        """Core-seconds of this process so far, earlier parts of a resumed run among them."""
        running = 0.0 if self._since is None else time.process_time() - self._since
        return self._spent + running

    @contextmanager
    def counting(self) -> Iterator[None]:
        """What is done within counts as training."""
        self._start()
        try:
            yield
        finally:
            self._stop()

    def _start(self) -> None:
        self._since = time.process_time()

    def _stop(self) -> None:
        self._spent, self._since = self.spent, None

    def on_train_start(self, *_: Any) -> None:
        self._start()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if self.limit is None:
            return
        over = self.spent * trainer.world_size >= self.limit  # processes work alike
        if trainer.world_size > 1:  # all stop after the same step
            over = trainer.strategy.reduce_boolean_decision(over, all=False)
        if over:
            trainer.should_stop = True

    def on_save_checkpoint(self, trainer: L.Trainer, *_: Any) -> None:
        self._facts["core_seconds"] = round(self.spent * trainer.world_size, 1)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        earlier = checkpoint["glissando"].get("core_seconds", 0.0)
        self._spent += earlier / trainer.world_size
