"""The most memory that training holds at once."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from contextlib import suppress
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")  # of Linux, see proc(5)


class Peak:
    """Watches from its making on.

    On a GPU it is what tensors take there, weights and all. On a processor it is what the process'
    resident memory has grown by, so libraries and weights are not in it. What earlier runs of the
    same process have left is given back first where the system can (Linux with glibc); elsewhere a
    run shows only what it takes beyond all runs before it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        gc.collect()
        with suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)
        with suppress(OSError):
            (_PROCESS / "clear_refs").write_text("5")  # the peak becomes what is resident now
        self._before = _resident_peak()

    @property
    def gib(self) -> float:
        """The peak until now, in GiB."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**30
        return (_resident_peak() - self._before) / 2**30


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
