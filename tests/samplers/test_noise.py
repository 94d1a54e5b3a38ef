"""One generator per clip, and the Brownian path."""

import math
from itertools import pairwise

import pytest
import torch

from glissando.samplers.brownian import DEPTH, Brownian, heights
from glissando.samplers.noise import ClipNoise, scramble

SHAPE = (3, 2, 50)


def test_a_seed_is_a_clip():
    noise = ClipNoise([5, 6, 7], SHAPE)
    first, second = noise(), noise()
    assert first.shape == (3, *SHAPE)
    assert not torch.equal(first, second)
    alone = ClipNoise([6], SHAPE)
    assert torch.equal(alone()[0], first[1])
    assert torch.equal(alone()[0], second[1])
    assert torch.equal(ClipNoise([7, 5], SHAPE)(), first[[2, 0]])
    assert abs(first.mean()) < 4 / math.sqrt(first.numel())
    assert first.std().item() == pytest.approx(1, abs=0.1)


def test_dtype():
    assert ClipNoise([1], SHAPE, dtype=torch.float64)().dtype == torch.float64
    assert ClipNoise([1], SHAPE, dtype=torch.float64).between(0.1, 0.4).dtype == torch.float64


def test_the_brownian_path_is_additive_and_does_not_mind_the_order():
    noise = ClipNoise([1, 2], SHAPE, dtype=torch.float64)
    places = [0.0, 0.11, 0.35, 0.350001, 0.8, 1.0]

    def rise(source, a, b):
        return source.between(a, b) * (b - a) ** 0.5

    whole = rise(noise, 0, 1)
    parts = [rise(noise, a, b) for a, b in pairwise(places)]
    torch.testing.assert_close(sum(parts), whole, rtol=1e-9, atol=1e-9)
    backwards = ClipNoise([1, 2], SHAPE, dtype=torch.float64)
    for a, b, part in reversed(list(zip(places[:-1], places[1:], parts, strict=True))):
        torch.testing.assert_close(rise(backwards, a, b), part, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        ClipNoise([2], SHAPE, dtype=torch.float64).between(0.2, 0.3)[0], noise.between(0.2, 0.3)[1]
    )


def test_the_covariance_of_the_path_is_a_brownian_one():
    """E[W(s) W(t)] = min(s, t), where places lie in different ones of the smallest intervals."""
    places = [0.0, 0.0003, 0.11, 0.35, 0.5, 0.5003, 0.8, 0.9997, 1.0]
    for s in places:
        for t in places:
            first, second = ({0: at, **dict(heights(at))} for at in (s, t))
            covariance = sum(height * second.get(node, 0) for node, height in first.items())
            assert covariance == pytest.approx(min(s, t), abs=1e-12)


def test_increments_are_unit_and_independent():
    noise = ClipNoise(range(40), SHAPE)
    edges = torch.linspace(0, 1, 8).tolist()
    steps = torch.stack([noise.between(a, b) for a, b in pairwise(edges)])
    flat = steps.flatten(1)
    error = 1 / math.sqrt(flat.shape[1])
    assert flat.mean(1).abs().max() < 4.5 * error
    assert (flat.std(1) - 1).abs().max() < 4.5 * error
    assert (torch.corrcoef(flat) - torch.eye(7)).abs().max() < 4.5 * error
    # And of the noise that starts the clip.
    start = noise().flatten()
    assert max(abs(float((start * step).mean())) for step in flat) < 4.5 * error


def test_a_query_draws_few_nodes_and_repeats_none():
    drawn = []

    def node(number):
        drawn.append(number)
        return torch.zeros(1)

    path = Brownian(node)
    path(0.3, 0.7)
    assert len(drawn) == 2 * (DEPTH + 2)
    path(0.1, 0.3)  # a sampler's next step: W(0.3) is still there
    assert len(drawn) == 3 * (DEPTH + 2)
    assert max(drawn) < 2 ** (DEPTH + 1)


@pytest.mark.parametrize("bad", [(0.5, 0.5), (0.6, 0.5), (-0.1, 0.5), (0.5, 1.1)])
def test_intervals_outside_are_refused(bad):
    with pytest.raises(ValueError, match="Brownian"):
        ClipNoise([1], SHAPE).between(*bad)


def test_scramble_spreads():
    seeds = {scramble(seed, number) for seed in range(100) for number in range(100)}
    assert len(seeds) > 9990
    assert all(0 <= seed < 2**32 for seed in seeds)
