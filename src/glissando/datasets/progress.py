"""What a long preparation shows meanwhile: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.progress import TimeRemainingColumn as Remaining

console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """One line to the person who waits."""
    console.print(line, markup=False)


@contextmanager
def advancing(what: str, total: int, shown: bool, every: float = 15.0) -> Iterator[Callable]:
    """Yields ``advance(n=1)``; shows how far ``total`` is done and how long the rest will take.

    Without a terminal (CI, a cluster's log) a line is written every ``every`` seconds.
    """
    if not shown:
        yield lambda n=1: None
    elif console.is_terminal:
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), Elapsed())
        left = (TextColumn("left"), Remaining(elapsed_when_finished=False))
        with Progress(*columns, *left, console=console) as bar:
            task = bar.add_task(what, total=total)
            yield lambda n=1: bar.advance(task, n)
    else:
        yield _lines(what, total, every)


def _lines(what: str, total: int, every: float) -> Callable[..., None]:
    started = said = time.monotonic()
    done = 0
    say(f"{what}: {total} to do")

    def advance(n: int = 1) -> None:
        nonlocal done, said
        done += n
        now = time.monotonic()
        if now - said >= every:
            said = now
            left = (now - started) / done * (total - done)
            say(f"{what}: {done} of {total}, about {left:.0f} s left")

    return advance
