"""The one seeded order in which an epoch's samples are consumed, and how it is dealt to ranks.

The rule, with N samples, W ranks and batches of B:

1. *Order.* Per epoch the shards are permuted, taken ``mix`` at a time, and the samples of each
   such group are permuted together. It depends on (seed, epoch) and on nothing else: not on the
   number of ranks, workers or the batch size. ``mix`` bounds how many shards are open at once.
2. *Steps.* Position p means that the first p samples of the order have been consumed by all
   ranks together. Every step consumes the next W·B samples: rank r gets the r-th B of them. So
   equal W·B gives equal steps on any number of ranks, and a run that continues with another W or
   B goes on at p: no sample is repeated or lost.
3. *Remainder.* In training the last (N - p) mod W·B samples of the order are left out (others in
   every epoch, as the order is new); an epoch begun with fewer than W·B samples has one smaller,
   equal step. In evaluation every sample is seen: all ranks make the same number of steps and the
   rows are spread over them as evenly as possible, so steps differ in size by at most one row.
4. *Workers.* Worker w of n makes the steps w, w + n, w + 2n, … of its rank, and the DataLoader
   takes from the workers in turn, so the batches are the same for any number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glissando.errors import UserError


def generator(*numbers: int) -> np.random.Generator:
    """A generator for this tuple of non-negative integers, e.g. (seed, epoch, sample)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(numbers)))


def epoch_order(counts: Sequence[int], seed: int, epoch: int, mix: int) -> np.ndarray:
    """The order of one epoch: (N,) int64, each of 0 … N-1 once.

    ``counts`` has the number of samples of each shard; sample i is the (i - start of its shard)-th
    of that shard. Shards are permuted and shuffled together ``mix`` (>= 1) at a time.
    """
    rng = generator(seed, epoch)
    starts = np.cumsum([0, *counts])
    shards = rng.permutation(len(counts))
    groups = [shards[i : i + mix] for i in range(0, len(shards), mix)]
    parts = [np.concatenate([starts[s] + np.arange(counts[s]) for s in g]) for g in groups]
    return np.concatenate([rng.permutation(part) for part in parts] or [np.arange(0)])


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
