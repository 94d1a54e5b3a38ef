"""The one seeded order in which an epoch's samples are consumed, and how it is dealt to ranks.

The rule, with N samples, W ranks and batches of B:

1. *Order.* Per epoch the shards are permuted, taken ``mix`` at a time, and the samples of each
   such group are permuted together. It depends on (seed, epoch) and the data alone: not on the
   number of ranks, workers or the batch size. ``mix`` bounds how many shards are open at once.
2. *Steps.* Position p means that the first p samples of the order have been consumed by all
   ranks together. Every step consumes the next W·B samples: rank r gets the r-th B of them. So
   equal W·B gives equal steps on any number of ranks, and a run that continues with another W or
   B goes on at p: no sample is repeated or lost.
3. *Remainder.* In training the last (N - p) mod W·B samples of the order are left out (others in
   every epoch, as the order is new); an epoch begun with fewer than W·B samples has one smaller,
   equal step. In evaluation every sample is seen: all ranks make the same number of steps and the
   rows are spread over them as evenly as possible, so steps differ in size by at most one row.
4. *Weights.* A source of weight w makes w times its samples part of every epoch. It goes through
   its shards in an order of its own, pass after pass without end, and each epoch takes the next
   part of that: whole shards but for the first and the last, and no sample comes again before all
   have come. With all weights 1 an epoch is every sample once.
5. *Workers.* Worker w of n makes the steps w, w + n, w + 2n, … of its rank, and the DataLoader
   takes from the workers in turn, so the batches are the same for any number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glissando.errors import UserError


def generator(*numbers: int) -> np.random.Generator:
    """A generator for this tuple of non-negative integers, e.g. (seed, epoch, sample)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(numbers)))


def epoch_order(
    counts: Sequence[int],
    seed: int,
    epoch: int,
    mix: int,
    sources: Sequence[int] | None = None,
    weights: Sequence[float] = (1.0,),
) -> np.ndarray:
    """The visits of one epoch in order, (N,) int64: visit v is to sample v mod (all samples).

    ``counts`` has the number of samples of each shard; sample i is the (i - start of its shard)-th
    of that shard. Shards are permuted and shuffled together ``mix`` (>= 1) at a time. ``sources``
    has the source of each shard (None: all of source 0), ``weights`` the weight of each source.
    A visit is the sample itself, and more by all samples with each time that it comes again in
    the epoch. N is ``epoch_length``, the same in every epoch.
    """
    rng = generator(seed, epoch)
    parts = _parts(counts, seed, epoch, sources or [0] * len(counts), weights)
    shards = rng.permutation(len(parts))
    groups = [shards[i : i + mix] for i in range(0, len(shards), mix)]
    mixed = [np.concatenate([parts[s] for s in group]) for group in groups]
    return np.concatenate([rng.permutation(part) for part in mixed] or [np.arange(0)])


def epoch_length(
    counts: Sequence[int], sources: Sequence[int] | None, weights: Sequence[float]
) -> int:
    """How many samples all ranks together visit in an epoch."""
    sources = sources or [0] * len(counts)
    every = [
        _share(sum(n for n, s in zip(counts, sources, strict=True) if s == source), weight)
        for source, weight in enumerate(weights)
    ]
    return sum(every)


def _share(samples: int, weight: float) -> int:
    return max(1, round(samples * weight)) if samples else 0


def _parts(
    counts: Sequence[int], seed: int, epoch: int, sources: Sequence[int], weights: Sequence[float]
) -> list[np.ndarray]:
    """The visits of an epoch, one array for each visit to a shard, in order of the shards."""
    starts = np.cumsum([0, *counts])
    found: list[tuple[int, int, np.ndarray]] = []
    for source, weight in enumerate(weights):
        mine = [shard for shard, of in enumerate(sources) if of == source]
        samples = sum(counts[shard] for shard in mine)
        share = _share(samples, weight)
        # The stretch of this source's endless passes that belongs to the epoch.
        begin, end = epoch * share, (epoch + 1) * share
        first, last = (begin // samples, -(-end // samples)) if samples else (0, 0)
        for number in range(first, last):
            at = number * samples
            for place in generator(seed, number, source, 1).permutation(len(mine)):
                shard = mine[place]
                low, high = max(begin, at), min(end, at + counts[shard])
                if low < high:
                    again = (number - first) * int(starts[-1])
                    visits = starts[shard] + again + np.arange(low - at, high - at)
                    found.append((shard, number, visits))
                at += counts[shard]
    return [visits for *_, visits in sorted(found, key=lambda part: part[:2])]


def training_steps(
    order: np.ndarray, position: int, batch_size: int, rank: int, world: int
) -> list[np.ndarray]:
    """The steps of ``rank`` from ``position`` to the end of the epoch: each (batch_size,) indices.

    Raises UserError when the epoch has fewer samples than ranks.
    """
    _enough(len(order), world)
    whole = batch_size * world
    left = order[position:]
    if position == 0 and len(order) < whole:
        batch_size = len(order) // world
        whole = batch_size * world
    steps = len(left) // whole
    dealt = left[: steps * whole].reshape(steps, world, batch_size)
    return list(dealt[:, rank])


def evaluation_steps(
    order: np.ndarray, position: int, batch_size: int, rank: int, world: int
) -> list[np.ndarray]:
    """Like ``training_steps``, of at most ``batch_size`` rows each, leaving nothing out.

    Every rank makes equally many steps of at least one row. Only where rows are too few for that
    (batches of one) does a rank see its last row once more.
    """
    _enough(len(order), world)
    left = order[position:]
    steps = -(-len(left) // (batch_size * world))
    mine = left[rank::world]
    if len(mine) < steps:
        mine = np.append(mine, order[rank] if len(mine) == 0 else mine[-1])
    return np.array_split(mine, steps) if steps else []


def _enough(samples: int, world: int) -> None:
    if samples < world:
        raise UserError(
            f"{samples} samples are too few for {world} processes: lower trainer.devices, or "
            "prepare more (data.clips=, data.splits.valid=)"
        )
