"""What a person sees while a run trains: the bar of ``glissando.progress``, and validations."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

from glissando.progress import ERR, Bar, note

say = rank_zero_only(note)
"""One line to the person who waits, whatever the number of processes."""


class ProgressBar(L.Callback):
    """Steps, time left, loss and speed; after a validation its metrics."""

    def __init__(self) -> None:
        self._bar: Bar | None = None

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        total = trainer.max_steps if trainer.max_steps > 0 else None
        shown = trainer.is_global_zero
        self._bar = Bar("training", total, trainer.global_step, shown, console=ERR).__enter__()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        bar = self._bar
        assert bar is not None

        def facts() -> str:
            loss = trainer.callback_metrics.get("train/loss")
            speed = f"{bar.rate:.2f} steps/s"
            return speed if loss is None else f"loss {float(loss):.4f}, {speed}"

        bar.update(trainer.global_step, facts=facts)

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.sanity_checking:
            return
        values = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        say(f"step {trainer.global_step}: {shown}")

    def on_train_end(self, *_: Any) -> None:
        self._stop(None)

    def on_exception(self, trainer: L.Trainer, module: Any, exception: BaseException) -> None:
        self._stop(exception)

    def _stop(self, error: BaseException | None) -> None:
        if self._bar is not None:
            self._bar.__exit__(type(error) if error else None, error, None)
            self._bar = None
