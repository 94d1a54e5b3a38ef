from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from glissando.errors import UserError
from glissando.training.ema import EMA


def module(value: float) -> Any:
    averaged = nn.Linear(2, 1)
    nn.init.constant_(averaged.weight, value)
    return SimpleNamespace(averaged=averaged)


def set_to(target: Any, value: float) -> None:
    with torch.no_grad():
        target.averaged.weight.fill_(value)


def test_closed_form() -> None:
    """twin_k = d_k twin_{k - 1} + (1 - d_k) w_k with d_k = min(d, (1 + k) / (10 + k))."""
    target, ema = module(1.0), EMA(0.5)
    ema.on_train_start(None, target)  # type: ignore[arg-type]
    expected = 1.0
    for step in range(1, 30):
        set_to(target, float(step * step))
        ema.on_train_batch_end(None, target)  # type: ignore[arg-type]
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step * step
    assert ema.twin[0].flatten().tolist() == pytest.approx([expected, expected])


def test_swapped_in_for_validation_and_back() -> None:
    target, ema = module(1.0), EMA(0.9)
    ema.on_train_start(None, target)  # type: ignore[arg-type]
    set_to(target, 3.0)
    ema.on_validation_start(None, target)  # type: ignore[arg-type]
    assert target.averaged.weight.flatten().tolist() == [1.0, 1.0]
    ema.on_validation_end(None, target)  # type: ignore[arg-type]
    assert target.averaged.weight.flatten().tolist() == [3.0, 3.0]
    assert ema.twin[0].flatten().tolist() == [1.0, 1.0]


def test_an_exception_within_validation_puts_the_weights_back() -> None:
    target, ema = module(1.0), EMA(0.9)
    ema.on_train_start(None, target)  # type: ignore[arg-type]
    set_to(target, 3.0)
    ema.on_validation_start(None, target)  # type: ignore[arg-type]
    ema.on_exception(None, target, RuntimeError())  # type: ignore[arg-type]
    ema.on_exception(None, target, RuntimeError())  # type: ignore[arg-type]
    assert target.averaged.weight.flatten().tolist() == [3.0, 3.0]


def test_stored_and_restored() -> None:
    target, ema = module(1.0), EMA(0.9)
    ema.on_train_start(None, target)  # type: ignore[arg-type]
    for value in (2.0, 5.0):
        set_to(target, value)
        ema.on_train_batch_end(None, target)  # type: ignore[arg-type]
    checkpoint: dict[str, Any] = {}
    ema.on_save_checkpoint(None, target, checkpoint)  # type: ignore[arg-type]
    assert set(checkpoint["ema"]) == {"weight", "bias"}

    other, again = module(5.0), EMA(0.9)
    again.on_load_checkpoint(None, other, checkpoint)  # type: ignore[arg-type]
    again.on_train_start(None, other)  # type: ignore[arg-type]
    assert again.updates == 2
    for each, thing in ((ema, target), (again, other)):
        set_to(thing, 7.0)
        each.on_train_batch_end(None, thing)  # type: ignore[arg-type]
    torch.testing.assert_close(again.twin[0], ema.twin[0], atol=0, rtol=0)


@pytest.mark.parametrize("decay", [-0.1, 1, 2])
def test_a_decay_that_averages_nothing_is_refused(decay: float) -> None:
    with pytest.raises(UserError, match="ema must be from 0 to below 1"):
        EMA(decay)
