"""The peak of memory, beside an allocation of known size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glissando.training.memory import Peak

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
