"""What a person sees while a run trains: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

console = Console(stderr=True, highlight=False, soft_wrap=True)


@rank_zero_only
def say(line: str) -> None:
    """One line to the person who waits, whatever the number of processes."""
    console.print(line, markup=False)


class ProgressBar(L.Callback):
    """Steps, losses, speed and time left; without a terminal one line every ``every`` seconds."""

    def __init__(self, every: float = 10.0) -> None:
        self.every = every
        self._bar: Progress | None = None

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        if not trainer.is_global_zero:
            return
        self._began = self._said = time.monotonic()
        self._first = trainer.global_step
        if console.is_terminal:
            columns = (
                TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                TextColumn("{task.fields[facts]}"),
            )  # fmt: skip
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task(
                "training", total=_total(trainer), completed=self._first, facts=""
            )
            self._bar.start()
        else:
            say(f"training: {_total(trainer) or 'endless'} steps, from step {self._first}")

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if not trainer.is_global_zero:
            return
        now = time.monotonic()
        if now - self._said < (0.5 if self._bar else self.every):
            return
        self._said = now
        facts = self._facts(trainer, now)
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step, facts=facts)
        else:
            say(f"step {trainer.global_step} of {_total(trainer) or 'endless'}: {facts}")

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        values = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        say(f"step {trainer.global_step}: {shown}")

    def on_train_end(self, *_: Any) -> None:
        self._stop()

    def on_exception(self, *_: Any) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _facts(self, trainer: L.Trainer, now: float) -> str:
        done = trainer.global_step - self._first
        rate = done / (now - self._began) if done else 0.0
        parts = []
        loss = trainer.callback_metrics.get("train/loss")
        if loss is not None:
            parts.append(f"loss {float(loss):.4f}")
        if rate:
            parts.append(f"{rate:.2f} steps/s")
            total = _total(trainer)
            if total:
                left = (total - trainer.global_step) / rate
                parts.append(f"{int(left // 60)}:{int(left % 60):02d} left")
        return "  ".join(parts)


def _total(trainer: L.Trainer) -> int | None:
    return trainer.max_steps if trainer.max_steps > 0 else None
