"""The most memory that training holds at once, and how much there is."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from contextlib import suppress
from pathlib import Path

import torch

GIB = 2**30
MARGIN = 0.1  # of free memory that stays free: what is measured at the peak is not exact
_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")  # of Linux, see proc(5) and cgroups(7)
_PROCESS = _PROC / "self"
# Limit, use, and what of it the system gives back when asked: version 2, version 1.
_FILES = [
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
]


class Peak:
    """Watches from its making on.

    On a GPU it is what tensors take there, weights and all. On a processor it is what the process'
    resident memory has grown by, so libraries and weights are not in it. What earlier runs of the
    same process have left is given back first where the system can (Linux with glibc); elsewhere a
    run shows only what it takes beyond all runs before it, and ``exact`` is False.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.exact = device, True
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        gc.collect()
        with suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)
        self.exact = False
        with suppress(OSError):
            (_PROCESS / "clear_refs").write_text("5")  # the peak becomes what is resident now
            self.exact = True
        self._before = _resident_peak()

    @property
    def gib(self) -> float:
        """The peak until now, in GiB."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / GIB
        return (_resident_peak() - self._before) / GIB


def _resident_peak() -> int:
    """Bytes; 0 where the system does not tell (Windows)."""
    with suppress(OSError):
        line = re.search(r"^VmHWM:\s*(\d+) kB$", (_PROCESS / "status").read_text(), re.MULTILINE)
        if line:
            return 1024 * int(line[1])
    try:
        import resource
    except ImportError:
        return 0
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else 1024 * size


def room(device: torch.device, processes: int = 1) -> float:
    """Bytes that training may take, as ``Peak`` counts them, with so many processes beside.

    Of a GPU, all that other programs leave, or with several processes but a tenth. Of RAM, nine
    tenths of what is free, shared by the processes of this machine; 0 where the system does not
    tell.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        own = torch.cuda.memory_reserved(device)
        return float(free + own) * (1 - MARGIN if processes > 1 else 1)
    return (available() or 0) * (1 - MARGIN) / processes


def available(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """Bytes of RAM that can be taken before the system ends a process; None if it does not tell.

    What is free on the machine, or less where a control group sets a limit (a container, a job of
    Slurm's).
    """
    with suppress(OSError):
        line = re.search(
            r"^MemAvailable:\s*(\d+) kB$", (proc / "meminfo").read_text(), re.MULTILINE
        )
        if line:
            below = [left for group in _groups(proc, cgroups) for left in _left(group)]
            return min([1024 * int(line[1]), *below])
    return None


def _groups(proc: Path, cgroups: Path) -> list[Path]:
    """The control groups that this process is in, which may each have a limit, and their roots."""
    found = []
    with suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            root = cgroups / "memory" if controllers else cgroups
            group = root / path.lstrip("/")
            found += [each for each in (group, *group.parents) if each.is_relative_to(root)]
    return found


def _left(group: Path) -> list[int]:
    """Bytes below the group's limit, if it has one."""
    found = []
    for limit, used, cached in _FILES:
        with suppress(OSError, ValueError):  # "max" is no number
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            most, now = (int((group / name).read_text()) for name in (limit, used))
            found.append(most - now + int(stat.get(cached, 0)))
    return found
