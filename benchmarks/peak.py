"""Runs a command and prints how long it took and the most memory its processes had together.

    python benchmarks/peak.py make demo

The sum of the resident memory of the command and all its descendants, looked at every --every
seconds; pages that processes share (libraries, what a fork has not written) count in each. The
command's output and exit status are its own; the figures go to stderr.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """One process: its number, its parent's, its resident memory in MiB."""

    pid: int
    parent: int
    mib: float


def processes() -> Iterator[Process]:
    """All processes of this machine that can be seen."""
    if not Path("/proc/self/stat").exists():
        yield from _by_ps()
        return
    page = os.sysconf("SC_PAGE_SIZE") / 2**20
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                # The name, in parentheses, may hold anything; after it: state, parent, ...
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                yield Process(int(folder.name), int(fields[1]), int(fields[21]) * page)
            except (OSError, IndexError):
                continue  # it has ended meanwhile


def _by_ps() -> Iterator[Process]:
    """Where there is no /proc (macOS)."""
    command = ["ps", "-A", "-o", "pid=,ppid=,rss="]
    for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines():
        pid, parent, kib = map(int, line.split())
        yield Process(pid, parent, kib / 1024)


def tree(root: int) -> list[Process]:
    """``root`` and its descendants, as they are now."""
    every = {process.pid: process for process in processes()}
    children: dict[int, list[int]] = {}
    for process in every.values():
        children.setdefault(process.parent, []).append(process.pid)
    found, left = [], [root]
    while left:
        pid = left.pop()
        if pid in every:
            found.append(every[pid])
            left += children.get(pid, [])
    return found


class Peak(NamedTuple):
    """What was seen of a command: exit status, seconds, and its fullest moment."""

    status: int
    seconds: float
    mib: float
    at: float
    processes: int
    largest: float


def peak(command: list[str], every: float = 0.1) -> Peak:
    """Runs ``command`` to its end. Raises FileNotFoundError if there is no such program."""
    began = time.perf_counter()
    fullest, most, at = [], 0.0, 0.0
    # In this terminal's group of processes, so that Ctrl-C reaches the command as well.
    with subprocess.Popen(command) as running:
        while running.poll() is None:
            now = tree(running.pid)
            total = sum(process.mib for process in now)
            if total > most:
                fullest, most, at = now, total, time.perf_counter() - began
            time.sleep(every)
    seconds = time.perf_counter() - began
    largest = max((process.mib for process in fullest), default=0.0)
    return Peak(running.returncode, seconds, most, at, len(fullest), largest)


def main() -> None:
    """Prints the figures and exits with the command's status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=float, default=0.1, help="seconds between two looks")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND ...")
    given = parser.parse_args()
    if not given.command:
        parser.error("which command?")
    # Ctrl-C is for the command; what was seen until then is printed. (A child has no such handler.)
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        seen = peak(given.command, given.every)
    except FileNotFoundError:
        parser.error(f"there is no program {given.command[0]}")
    minutes, seconds = divmod(seen.seconds, 60)
    print(
        f"{' '.join(given.command)}: {minutes:.0f} min {seconds:.1f} s, peak {seen.mib:.0f} MiB in "
        f"{seen.processes} process(es) (the largest {seen.largest:.0f} MiB) after {seen.at:.0f} s",
        file=sys.stderr,
    )
    sys.exit(seen.status if seen.status >= 0 else 128 - seen.status)


if __name__ == "__main__":
    main()
