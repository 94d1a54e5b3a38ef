from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from glissando.training.processor_time import ProcessorTime


class Trainer(SimpleNamespace):
    """What the callback asks of one."""

    def __init__(self, world_size: int = 1) -> None:
        decide = SimpleNamespace(reduce_boolean_decision=lambda over, all: over)
        super().__init__(world_size=world_size, should_stop=False, strategy=decide)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The processor's time, moved by hand."""
    now = [100.0]
    monkeypatch.setattr(time, "process_time", lambda: now[0])
    return now


def test_training_counts_and_validation_does_not(clock: list[float]) -> None:
    facts: dict[str, Any] = {}
    counter, trainer = ProcessorTime(facts, limit=12), Trainer()
    clock[0] += 5  # data is prepared
    with counter.counting():
        clock[0] += 2  # a warm start
    clock[0] += 7
    counter.on_train_start(trainer, None)
    clock[0] += 4
    counter.on_validation_start(trainer, None)  # type: ignore[arg-type]
    clock[0] += 50
    counter.on_validation_end(trainer, None)  # type: ignore[arg-type]
    counter.on_train_batch_end(trainer)  # type: ignore[arg-type]
    assert counter.spent == 6
    assert not trainer.should_stop
    clock[0] += 6.04
    counter.on_train_batch_end(trainer)  # type: ignore[arg-type]
    assert trainer.should_stop
    counter.on_save_checkpoint(trainer)  # type: ignore[arg-type]
    assert facts["core_seconds"] == 12.0


def test_a_resumed_run_counts_on_and_processes_count_together(clock: list[float]) -> None:
    facts: dict[str, Any] = {}
    counter, trainer = ProcessorTime(facts, limit=100), Trainer(world_size=4)
    counter.on_load_checkpoint(trainer, None, {"glissando": {"core_seconds": 80.0}})  # type: ignore[arg-type]
    counter.on_train_start(trainer, None)
    clock[0] += 4
    counter.on_train_batch_end(trainer)  # type: ignore[arg-type]
    assert not trainer.should_stop
    clock[0] += 1
    counter.on_train_batch_end(trainer)  # type: ignore[arg-type]
    assert trainer.should_stop
    counter.on_save_checkpoint(trainer)  # type: ignore[arg-type]
    assert facts["core_seconds"] == 100.0


def test_without_a_limit_it_only_tells(clock: list[float]) -> None:
    counter, trainer = ProcessorTime({}), Trainer()
    counter.on_train_start(trainer, None)
    clock[0] += 1e9
    counter.on_train_batch_end(trainer)  # type: ignore[arg-type]
    assert not trainer.should_stop
