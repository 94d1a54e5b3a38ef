from __future__ import annotations

import math

import pytest

from glissando.errors import UserError
from glissando.training.schedules import Constant, Cosine, InversePower


def test_cosine() -> None:
    schedule = Cosine(steps=110, warmup=10, floor=0.1)
    assert [schedule(step) for step in range(10)] == pytest.approx([k / 10 for k in range(1, 11)])
    for step in (10, 35, 60, 85, 109):
        half = 0.5 * (1 + math.cos(math.pi * (step - 10) / 100))
        assert schedule(step) == pytest.approx(0.1 + 0.9 * half)
    assert schedule(60) == pytest.approx(0.55)
    assert schedule(110) == schedule(10_000) == pytest.approx(0.1)


def test_cosine_without_warmup_begins_at_one() -> None:
    assert Cosine(steps=10)(0) == 1.0
    assert Cosine(steps=5, warmup=10)(4) == 0.5  # a run shorter than its warm-up


def test_cosine_needs_an_end() -> None:
    with pytest.raises(UserError, match=r"schedule=constant"):
        Cosine(steps=-1)


def test_inverse_power_is_stable_audios() -> None:
    """InverseLR of stable-audio-tools, written out."""
    schedule = InversePower(gamma=1e3, power=0.5, decay=0.9)
    for step in (0, 1, 10, 1000, 30_000):
        expected = (1 - 0.9 ** (step + 1)) * (1 + step / 1e3) ** -0.5
        assert schedule(step) == pytest.approx(expected)
    assert schedule(3000) == pytest.approx(0.5, rel=1e-6)


def test_inverse_power_with_a_linear_warmup() -> None:
    assert InversePower(decay=0.0, warmup=4)(1) == pytest.approx(0.5, rel=1e-5)


def test_constant() -> None:
    assert [Constant()(step) for step in (0, 9)] == [1.0, 1.0]
    assert [Constant(4)(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
