"""One look for everything that takes time: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")

EVERY = 10.0
"""Seconds between two lines where there is no terminal."""

# No file given: rich asks for sys.stdout at every write, so a redirected stdout is respected.
_console = Console(highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """Print one plain line to stdout (above a live bar, if there is one)."""
    _console.print(line, markup=False, emoji=False)


class Bar:
    """``with Bar("encode", total=1500) as bar: bar.advance()``, or `track` around an iterable.

    `total` is None when unknown. On a terminal: description, bar, done/total, elapsed, remaining.
    Elsewhere: such a line at once, every `every` seconds and at the end.
    """

    def __init__(
        self,
        description: str,
        total: int | None = None,
        *,
        console: Console | None = None,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.description, self.total, self.done = description, total, 0
        self._console = console or _console
        self._every, self._clock = every, clock
        self._start = self._said = clock()
        self._progress = _progress(self._console) if self._console.is_terminal else None

    def __enter__(self) -> Bar:
        self._start = self._said = self._clock()
        if self._progress is not None:
            self._task = self._progress.add_task(self.description, total=self.total)
            self._progress.start()
        else:
            self._say(f"{self.description}: 0{self._of()}")
        return self

    def advance(self, n: int = 1) -> None:
        """`n` more are done."""
        self.update(self.done + n)

    def update(self, done: int, total: int | None = None) -> None:
        """`done` are done now, of `total` if that has become known or changed."""
        self.done = done
        self.total = self.total if total is None else total
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=self.total)
        elif self._clock() - self._said >= self._every:
            self._line()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
        elif error is None:
            self._line()

    def _of(self) -> str:
        return "" if self.total is None else f"/{self.total}"

    def _line(self) -> None:
        self._said = self._clock()
        elapsed = self._said - self._start
        parts = [f"{self.description}: {self.done}{self._of()}", f"{clock(elapsed)} elapsed"]
        if self.total and 0 < self.done < self.total:
            parts.append(f"{clock(elapsed * (self.total - self.done) / self.done)} left")
        self._say(", ".join(parts))

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, emoji=False)


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """`items` again, under a bar; `total` defaults to their length if they have one."""
    count = total if total is not None else getattr(items, "__len__", lambda: None)()
    with Bar(description, count) as bar:
        for item in items:
            yield item
            bar.advance()


def clock(seconds: float) -> str:
    """Seconds as ``m:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
