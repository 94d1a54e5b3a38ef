"""One look for everything that takes time: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

EVERY = 10.0
"""Seconds between two lines where there is no terminal: a pipe, a log of SLURM's."""
REDRAWN = 0.5
"""Seconds between two looks at the facts of a bar on a terminal."""

# No file given: rich asks for sys.stdout at every write, so a redirected stdout is respected.
OUT = Console(highlight=False, soft_wrap=True)
ERR = Console(stderr=True, highlight=False, soft_wrap=True)


def say(line: str, console: Console = OUT) -> None:
    """Print one plain line to stdout (above a live bar, if there is one)."""
    console.print(line, markup=False, emoji=False)


def note(line: str) -> None:
    """One plain line to stderr: what is going on, and no result."""
    say(line, ERR)


class Bar:
    """``with Bar("encode", total=1500) as bar: bar.advance()``.

    On a terminal: description, bar, done/total, elapsed, remaining, facts. Elsewhere such a line
    at once, every `every` seconds and at the end; one that is stopped says how far it came.

    Args:
        description: what is done.
        total: how much there is to do; None when unknown.
        done: how much of it was done before, as by a run that is resumed.
        shown: False for no word at all.
    """

    def __init__(
        self,
        description: str,
        total: int | None = None,
        done: int = 0,
        shown: bool = True,
        *,
        console: Console = OUT,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.description, self.total, self.done = description, total, done
        self._first, self._shown, self._console, self._clock = done, shown, console, clock
        self._ask: Callable[[], str] | None = None
        self._facts = ""
        self._progress = _progress(console) if shown and console.is_terminal else None
        self._every = every if self._progress is None else REDRAWN

    def __enter__(self) -> Bar:
        self._start = self._said = self._clock()
        if self._progress is not None:
            self._task = self._progress.add_task(
                self.description, total=self.total, completed=self.done, facts=""
            )
            self._progress.start()
        elif self._shown:
            self._say(self._reached())
        return self

    @property
    def rate(self) -> float:
        """How much was done in a second, since the beginning."""
        elapsed = self._clock() - self._start
        return (self.done - self._first) / elapsed if elapsed else 0.0

    def advance(self, n: int = 1) -> None:
        """`n` more are done."""
        self.update(self.done + n)

    def update(
        self, done: int, total: int | None = None, facts: Callable[[], str] | None = None
    ) -> None:
        """`done` are done now, of `total` if that has become known or changed.

        `facts` gives what else is to be shown, and is called only when something is shown.
        """
        self.done, self._ask = done, facts
        self.total = self.total if total is None else total
        if self._clock() - self._said >= self._every:
            self._said = self._clock()
            self._show()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        if error is not None:
            self._ask = None  # what it would look at may be what broke
        self._show("" if error is None else "stopped at ")
        if self._progress is not None:
            self._progress.stop()

    def _show(self, how: str = "") -> None:
        if not self._shown:
            return
        self._facts = self._ask() if self._ask else self._facts
        if self._progress is None:
            self._say(how + self._state())
        else:
            self._progress.update(
                self._task, completed=self.done, total=self.total, facts=self._facts
            )

    def _state(self) -> str:
        elapsed = self._clock() - self._start
        parts = [self._reached(), f"{clock(elapsed)} elapsed"]
        if self.total and self._first < self.done < self.total:
            left = elapsed * (self.total - self.done) / (self.done - self._first)
            parts.append(f"{clock(left)} left")
        return ", ".join([*parts, *filter(None, [self._facts])])

    def _reached(self) -> str:
        if not self.total:
            return str(self.done)
        return f"{self.done}/{self.total} ({100 * self.done // self.total} %)"

    def _say(self, state: str) -> None:
        say(f"{self.description}: {state}", self._console)


def clock(seconds: float) -> str:
    """Seconds as ``m:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
        console=console,
        expand=True,
    )
