"""The peak of memory, beside an allocation of known size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glissando.training.memory import Peak, available, room

MIB = 2**20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is Linux's")
def test_the_peak_of_a_process_is_what_was_held_at_once() -> None:
    cpu = torch.device("cpu")
    peak = Peak(cpu)
    for _ in range(3):  # one after the other: the peak is of one
        held = torch.ones(128 * MIB // 4)
        del held
    assert 0.12 < peak.gib < 0.2  # what was free before is not seen
    later = Peak(cpu)
    assert later.gib < 0.06  # of that nothing is left
    assert peak.gib < 0.2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_peak_of_a_gpu_is_of_its_tensors() -> None:
    cuda = torch.device("cuda")
    peak = Peak(cuda)
    before = torch.cuda.memory_allocated() / 2**30
    held = torch.ones(128 * MIB // 4, device=cuda)
    del held
    assert peak.gib == pytest.approx(before + 0.125, abs=0.01)
    assert Peak(cuda).gib == pytest.approx(before, abs=0.01)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


INFO = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n"}


@pytest.mark.parametrize(("files", "kib"), [
    ({}, 8000),
    ({"proc/self/cgroup": "0::/\n"}, 8000),
    (  # version 2: the limit of a parent counts; a file that is cached can be given back
        {"proc/self/cgroup": "0::/job_7/step_0\n",
         "groups/job_7/step_0/memory.max": "max\n",
         "groups/job_7/step_0/memory.current": "500000\n",
         "groups/job_7/step_0/memory.stat": "anon 400000\ninactive_file 0\n",
         "groups/job_7/memory.max": "4096000\n", "groups/job_7/memory.current": "2048000\n",
         "groups/job_7/memory.stat": "anon 5\ninactive_file 1024000\n"},
        3000,
    ),
    (  # version 1
        {"proc/self/cgroup": "9:cpu:/a\n4:cpuset,memory:/box\n0::/\n",
         "groups/memory/box/memory.limit_in_bytes": "2048000\n",
         "groups/memory/box/memory.usage_in_bytes": "1024000\n",
         "groups/memory/box/memory.stat": "cache 9\ntotal_inactive_file 102400\n"},
        1100,
    ),
    (  # a limit that is none
        {"proc/self/cgroup": "4:memory:/\n",
         "groups/memory/memory.limit_in_bytes": "9223372036854771712\n",
         "groups/memory/memory.usage_in_bytes": "1024000\n",
         "groups/memory/memory.stat": "total_inactive_file 0\n"},
        8000,
    ),
])  # fmt: skip
def test_what_is_free(tmp_path: Path, files: dict[str, str], kib: int) -> None:
    root = tree(tmp_path, INFO | files)
    assert available(root / "proc", root / "groups") == 1024 * kib


def test_a_system_that_does_not_tell_what_is_free(tmp_path: Path) -> None:
    assert available(tmp_path, tmp_path) is None


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux tells what is free")
def test_this_machine_has_some_memory_left() -> None:
    free = available()
    assert free is not None
    assert 2**20 < free < 2**50
    assert room(torch.device("cpu"), 2) == pytest.approx(0.45 * free, rel=0.3)
