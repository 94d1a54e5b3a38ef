from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glissando.datasets.order import (
    epoch_length,
    epoch_order,
    evaluation_steps,
    training_steps,
)
from glissando.errors import UserError

counts = st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(lambda c: sum(c) >= 5)


@given(counts, st.integers(0, 9), st.integers(0, 9), st.integers(1, 9))
def test_order_holds_every_sample_once_and_is_repeatable(counts, seed, epoch, mix):
    order = epoch_order(counts, seed, epoch, mix)
    assert sorted(order) == list(range(sum(counts)))
    assert (order == epoch_order(counts, seed, epoch, mix)).all()


def test_order_differs_by_epoch_and_seed():
    orders = {tuple(epoch_order([50, 50], s, e, 2)) for s in range(3) for e in range(3)}
    assert len(orders) == 9


def test_mix_bounds_how_many_shards_are_open_at_once():
    order = epoch_order([10] * 12, seed=0, epoch=0, mix=3)
    for group in order.reshape(4, 30):
        assert len(set(group // 10)) == 3


@given(counts, st.integers(1, 7), st.integers(0, 3), st.integers(1, 9))
def test_weights_of_one_change_nothing(counts, shards, epoch, mix):
    sources = [i % 2 for i in range(len(counts))]
    weighted = epoch_order(counts, 5, epoch, mix, sources, (1.0, 1.0))
    assert (weighted == epoch_order(counts, 5, epoch, mix)).all()


@given(counts, st.tuples(st.floats(0.1, 3), st.floats(0.1, 3)), st.integers(1, 9))
def test_a_weight_is_how_often_a_source_comes(counts, weights, mix):
    sources = [i % 2 for i in range(len(counts))]
    every = sum(counts)
    length = epoch_length(counts, sources, weights)
    owner = np.repeat(sources, counts)
    seen = np.zeros(every, int)
    for epoch in range(4):
        order = epoch_order(counts, 1, epoch, mix, sources, weights)
        assert len(order) == length
        assert len(set(order)) == len(order)  # a visit is never made twice, and gets its own crop
        seen += np.bincount(order % every, minlength=every)
        for source, weight in enumerate(weights):
            mine = int((owner == source).sum())
            part = int((owner[order % every] == source).sum())
            assert part == (max(1, round(mine * weight)) if mine else 0)
            if mine:  # all have come n times before one comes n + 1 times
                times = seen[owner == source]
                assert times.max() - times.min() <= 1


def test_a_small_weight_still_opens_few_shards():
    counts = [100] * 20
    order = epoch_order(counts, 0, 3, 4, [0] * 20, (0.25,))
    assert len(order) == 500
    assert len(set(order % 2000 // 100)) <= 6


@given(counts, st.integers(1, 7), st.integers(1, 4))
def test_training_sees_each_sample_at_most_once_and_ranks_agree(counts, batch, world):
    order = epoch_order(counts, 0, 0, 4)
    ranks = [training_steps(order, 0, batch, r, world) for r in range(world)]
    assert len({len(steps) for steps in ranks}) == 1
    assert len(ranks[0]) >= 1
    seen = np.concatenate([step for steps in ranks for step in steps])
    assert len(set(seen)) == len(seen) > len(order) - batch * world
    # all ranks together consume exactly a prefix of the order: what makes a position one number
    assert set(seen) == set(order[: len(seen)])


@given(counts, st.data())
def test_continuing_on_other_ranks_repeats_and_loses_nothing(counts, data):
    order = epoch_order(counts, 0, 0, 4)
    first, then = (data.draw(st.tuples(st.integers(1, 5), st.integers(1, 4))) for _ in range(2))
    ranks = [training_steps(order, 0, first[0], r, first[1]) for r in range(first[1])]
    done = data.draw(st.integers(0, len(ranks[0])))
    before = [s for steps in ranks for step in steps[:done] for s in step]
    after = [
        s
        for r in range(then[1])
        for step in training_steps(order, len(before), then[0], r, then[1])
        for s in step
    ]
    both = before + after
    assert len(set(both)) == len(both)
    left_out = len(order) - len(both)
    assert left_out < max(first[0] * first[1], then[0] * then[1])
    assert set(both) == set(order[: len(both)])


@given(st.integers(1, 60), st.integers(2, 7), st.integers(1, 4))
def test_evaluation_sees_every_sample_exactly_once(samples, batch, world):
    if samples < world:
        return
    ranks = [evaluation_steps(np.arange(samples), 0, batch, r, world) for r in range(world)]
    assert len({len(steps) for steps in ranks}) == 1
    sizes = {len(step) for steps in ranks for step in steps}
    assert min(sizes) >= 1
    assert max(sizes) <= batch
    assert sorted(np.concatenate([s for steps in ranks for s in steps])) == list(range(samples))


def test_evaluation_with_batches_of_one_repeats_a_row_to_keep_ranks_level():
    ranks = [evaluation_steps(np.arange(5), 0, 1, r, 4) for r in range(4)]
    assert [len(steps) for steps in ranks] == [2, 2, 2, 2]
    seen = [int(step[0]) for steps in ranks for step in steps]
    assert set(seen) == set(range(5))


def test_fewer_samples_than_ranks_names_the_flag():
    with pytest.raises(UserError, match=r"trainer\.devices"):
        training_steps(np.arange(3), 0, 1, 0, 4)
