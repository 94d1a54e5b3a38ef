"""Numbers: the published formula, ranges, and what is refused."""

from __future__ import annotations

import logging
import math

import pytest
import torch

from glissando.conditioners import NumberConditioner
from glissando.errors import UserError


def test_it_is_stable_audios_number_conditioner():
    """Weights copied into diffusers' implementation give the same numbers."""
    from diffusers.pipelines.stable_audio.modeling_stable_audio import (
        StableAudioNumberConditioner,
    )

    ours = NumberConditioner("seconds_total", min=0, max=512, dim=64)
    theirs = StableAudioNumberConditioner(64, 0, 512, internal_dim=256)
    weights = {
        "0.weights": ours.frequencies,
        "1.weight": ours.project.weight,
        "1.bias": ours.project.bias,
    }
    theirs.time_positional_embedding.load_state_dict(weights)
    values = [0.0, 6.0, 47.5, 511.0, 600.0, -3.0]
    mine = ours([{"seconds_total": value} for value in values])["seconds_total"].value
    torch.testing.assert_close(mine, theirs(torch.tensor(values)).squeeze(1))


def test_it_is_the_closed_form():
    conditioner = NumberConditioner("bpm", min=40, max=240, dim=3, features=2)
    x = (90 - 40) / 200
    angles = [2 * math.pi * x * f for f in conditioner.frequencies.tolist()]
    features = torch.tensor([x, *map(math.sin, angles), *map(math.cos, angles)])
    expected = conditioner.project.weight @ features + conditioner.project.bias
    torch.testing.assert_close(conditioner([{"bpm": 90}])["bpm"].value[0], expected)


def test_outside_the_range_is_clamped_and_said_once(caplog):
    conditioner = NumberConditioner("seconds_total", min=0, max=60)
    with caplog.at_level(logging.WARNING, "glissando"):
        rows = [{"seconds_total": x} for x in (60, 61, 1e9, -1, 0)]
        value = conditioner(rows)["seconds_total"].value
        assert torch.equal(value[0], value[1])
        assert torch.equal(value[0], value[2])
        assert torch.equal(value[3], value[4])
    assert len(caplog.records) == 1
    assert "seconds_total.max" in caplog.text


@pytest.mark.parametrize("value", ["six", "6", float("nan"), True, [6.0, 7.0], {}])
def test_what_is_not_a_number_is_refused(value):
    with pytest.raises(UserError, match=r"seconds_total is .* not a number"):
        NumberConditioner("seconds_total", 0, 60)([{"seconds_total": value}])


def test_an_empty_range_is_refused():
    with pytest.raises(UserError, match="must be below"):
        NumberConditioner("seconds_total", 60, 60)


def test_neighbours_differ_in_a_long_range():
    conditioner = NumberConditioner("seconds_start", 0, 3600)
    value = conditioner([{"seconds_start": 1000.0}, {"seconds_start": 1000.5}])["seconds_start"]
    assert (value.value[0] - value.value[1]).abs().max() > 1e-5
