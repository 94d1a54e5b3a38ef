"""A function mapped over jobs by several processes, in order, a few jobs ahead."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any, TypeVar

from glissando.errors import UserError

J = TypeVar("J")
R = TypeVar("R")

_work: Callable[[Any], Any]  # in a worker: what it does, sent once and not with every job


@contextmanager
def mapped(work: Callable[[J], R], jobs: Sequence[J], workers: int) -> Iterator[Iterator[R]]:
    """Yields an iterator of ``work(job)`` in the order of ``jobs``; one worker is this process.

    ``work`` and jobs must be picklable. An exception of ``work`` is raised here. However the
    block is left (Ctrl-C, an error), jobs not yet begun are dropped and the processes end; they
    also end when this process is killed. UserError if one of them is.
    """
    workers = min(workers, len(jobs))
    if workers <= 1:
        yield map(work, jobs)
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(work,)
    )
    try:
        yield _in_order(pool, jobs, ahead=4 * workers)
    except BrokenProcessPool:
        raise UserError(
            "a worker process died (out of memory?): run it again to go on, with fewer workers "
            "(prepare.workers=1 shows which clip it was)"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, jobs: Sequence[J], ahead: int) -> Iterator[Any]:
    waiting = deque(pool.submit(_run, job) for job in jobs[:ahead])
    for job in jobs[ahead:]:
        yield waiting.popleft().result()
        waiting.append(pool.submit(_run, job))
    while waiting:
        yield waiting.popleft().result()


def _begin(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)  # nobody is left to hand results to


def _run(job: Any) -> Any:
    return _work(job)
