"""Batches streamed from shards: shuffled, cropped, dealt to ranks and workers, and resumable."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from glissando.datasets.ahead import ReadAhead
from glissando.datasets.base import Batch, Refused
from glissando.datasets.order import (
    epoch_length,
    epoch_order,
    evaluation_steps,
    generator,
    training_steps,
)
from glissando.datasets.remote import Lost
from glissando.datasets.samples import AudioReader, Crop, LatentReader, Piece
from glissando.datasets.shards import Shard, open_shards, read_dataset
from glissando.errors import UserError

log = logging.getLogger(__name__)

#: So many unreadable samples one after another are the fault of the disk, not of the samples.
HOPELESS = 100
#: Steps that the disk is told of before they are read, where shards are not read ahead whole.
AHEAD = 8
#: Seconds after which a shard that could not be read is asked for again.
AGAIN = 300.0


class ClipStream(IterableDataset):
    """Iterating gives the batches of one epoch, for this rank and this DataLoader worker.

    Use with ``DataLoader(stream, batch_size=None, num_workers=…)``. The order, and who gets what,
    is the rule in ``glissando.datasets.order``: batches depend on ``seed``, the epoch and
    ``batch_size``·``world`` only, not on the number of workers.

    ``seek(epoch, position)`` says where the next iteration begins, also for workers that live
    on; nothing that comes before is read. The position after k steps is k·``batch_size``·``world``
    (``Batch.keys`` on all ranks together); the caller counts, because workers read ahead.

    Args:
        shards: tars with their indexes (``open_shards``).
        reader: what a sample is: ``AudioReader`` or ``LatentReader``.
        seconds: length of a crop; shorter clips are padded at the end and masked. None: clips are
            whole and padded to the longest of the batch.
        batch_size: rows per rank and step.
        train: shuffled, random crops, the remainder of an epoch left out. Otherwise in stored
            order, crops from the middle, every sample seen.
        mix: how many shards are shuffled together.
        corrupt: the fraction of unreadable samples above which there is a UserError. Below it the
            next sample of the order takes the place, so that batches keep their size and ranks
            their number of steps; each is logged once.
        lost: likewise the fraction that lies in shards which no server gives. Such a shard is
            logged with its name, left out for five minutes, and asked for again.
        counts: samples of each shard, if known (else the indexes are read now).
        sources, weights: the source of each shard, and how often the samples of each come in an
            epoch of training.
        machines: over how many the ranks are spread. On one, shards of latents are read whole,
            ahead of what is wanted; of several each needs only a part of them.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        reader: AudioReader | LatentReader,
        seconds: float | None,
        batch_size: int,
        train: bool,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        mix: int = 64,
        corrupt: float = 0.05,
        lost: float = 0.5,
        counts: Sequence[int] | None = None,
        sources: Sequence[int] | None = None,
        weights: Sequence[float] = (1.0,),
        machines: int = 1,
    ) -> None:
        super().__init__()
        self.shards = list(shards)
        self.reader, self.seconds, self.batch_size, self.train = reader, seconds, batch_size, train
        self.seed, self.rank, self.world, self.mix = seed, rank, world, mix
        self.corrupt, self.lost, self.machines = corrupt, lost, machines
        self.counts = [len(s.samples) for s in self.shards] if counts is None else list(counts)
        self.sources, self.weights = None if sources is None else list(sources), tuple(weights)
        self.starts = np.cumsum([0, *self.counts])
        self.stored = int(self.starts[-1])
        self.length = None if seconds is None else math.ceil(seconds * reader.frame_rate - 1e-6)
        # Shared with the workers: they see a seek, and count what they cannot read together.
        self._place = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._bad = torch.zeros(self.stored, dtype=torch.bool).share_memory_()
        self._until = torch.zeros(len(self.shards), dtype=torch.float64).share_memory_()

    @property
    def samples(self) -> int:
        """Samples in an epoch, over all ranks."""
        if not self.train:
            return self.stored
        return epoch_length(self.counts, self.sources, self.weights)

    def seek(self, epoch: int, position: int = 0) -> None:
        """Begin the next iteration in ``epoch`` after its first ``position`` samples.

        A ``position`` beyond the end leaves an empty epoch.
        """
        self._place[:] = torch.tensor([epoch, position])

    @property
    def place(self) -> tuple[int, int]:
        """(epoch, position) where the next iteration begins."""
        epoch, position = self._place.tolist()
        return epoch, position

    def __len__(self) -> int:
        """Steps of this rank in a whole epoch, the same on every rank."""
        return len(self._steps(np.arange(self.samples), 0))

    def left(self) -> int:
        """Steps of this rank from the present place to the end of the epoch."""
        return len(self._steps(np.arange(self.samples), self.place[1]))

    def __iter__(self) -> Iterator[Batch]:
        epoch, position = self.place
        worker = get_worker_info()
        first, apart = (worker.id, worker.num_workers) if worker else (0, 1)
        yield from self.batches(epoch, 0, first, apart, position)

    def batches(
        self, epoch: int, begin: int = 0, first: int = 0, apart: int = 1, position: int = 0
    ) -> Iterator[Batch]:
        """Batches ``begin + first``, ``begin + first + apart``, … of this rank in ``epoch``.

        They are counted from ``position``, the samples that all ranks together had consumed when
        this number of ranks began. Nothing is read for what is passed over.
        """
        order = self._order(epoch)
        steps = self._steps(order, position)[begin + first :: apart]
        left = order[position + begin * self.batch_size * self.world :]
        ahead = self._read_ahead(left)
        for number, step in enumerate(steps):
            if ahead is not None:
                ahead.reach(len(left) * number // len(steps))
            elif self._told:
                told = number + AHEAD if number else 0
                for soon in steps[told : number + AHEAD + 1]:
                    self._expect(soon)
            yield collate(self._pieces(step, order, epoch), self.length)

    def _order(self, epoch: int) -> np.ndarray:
        if not self.train:
            return np.arange(self.samples)
        return epoch_order(self.counts, self.seed, epoch, self.mix, self.sources, self.weights)

    def _steps(self, order: np.ndarray, position: int) -> list[np.ndarray]:
        deal = training_steps if self.train else evaluation_steps
        return deal(order, position, self.batch_size, self.rank, self.world)

    @property
    def _told(self) -> bool:
        """Is it known what will be read, and is it read at all? Then the disk can be told."""
        return self.reader.whole and self.reader.cache is None

    def _read_ahead(self, left: np.ndarray) -> ReadAhead | None:
        """For what is ``left`` of an epoch; None where single samples are better told of."""
        if not self._told or self.machines > 1:
            return None
        which, _ = self._places(left)
        mix = self.mix if self.train else 1
        ahead = ReadAhead(self.shards, which, left // self.stored, self.counts, mix)
        return ahead if ahead.fits() else None

    def _expect(self, step: np.ndarray) -> None:
        """The disk reads ahead of us: in a shuffled order the system cannot know what comes."""
        for which, row in zip(*(column.tolist() for column in self._places(step)), strict=True):
            with suppress(UserError, OSError):  # reading it will tell
                self.shards[which].expect(self.shards[which].samples[row])

    def _pieces(self, step: np.ndarray, order: np.ndarray, epoch: int) -> list[Piece]:
        bad, until, now = self._bad.numpy(), self._until.numpy(), time.monotonic()
        which, rows = (column.tolist() for column in self._places(step))
        pieces = [
            None
            if bad[visit % self.stored] or until[shard] > now
            else self._piece(visit, shard, row, epoch)
            for visit, shard, row in zip(step.tolist(), which, rows, strict=True)
        ]
        for row, piece in enumerate(pieces):
            if piece is None:
                pieces[row] = self._substitute(int(step[row]), order, epoch)
        return [piece for piece in pieces if piece is not None]

    def _substitute(self, visit: int, order: np.ndarray, epoch: int) -> Piece:
        at = int(np.flatnonzero(order == visit)[0])
        tried = 0
        for ahead in range(1, len(order)):
            instead = int(order[(at + ahead) % len(order)])
            (which,), (row,) = self._places(np.array([instead]))
            if self._until[which] > time.monotonic():
                continue
            bad = self._bad[instead % self.stored]
            piece = None if bad else self._piece(instead, int(which), int(row), epoch)
            if piece is not None:
                return piece
            tried += 1
            if tried == HOPELESS:
                break
        raise UserError(
            f"no readable sample among {min(HOPELESS, len(order))} in {self.shards[0].path.parent}:"
            " delete its shards and run `glissando prepare` again"
        )

    def _places(self, visits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The shard of each visit, and the row in it."""
        numbers = visits % self.stored
        which = np.searchsorted(self.starts, numbers, side="right") - 1
        return which, numbers - self.starts[which]

    def _piece(self, visit: int, which: int, row: int, epoch: int) -> Piece | None:
        shard = self.shards[which]
        place = 0.5
        if self.train and self.length is not None:
            place = generator(self.seed, epoch, visit).random()
        try:
            return self.reader.read(shard, shard.samples[row], Crop(self.length, place))
        except Lost as error:
            self._leave_alone(which, error)
        except UserError:
            raise
        except (Refused, ValueError, KeyError, OSError, RuntimeError) as error:
            key = shard.samples[row]["key"]
            self._give_up(visit % self.stored, f"{key} in {shard.tar}: {error}")
        return None

    def _give_up(self, number: int, reason: str) -> None:
        self._bad[number] = True
        bad = int(self._bad.sum())
        log.warning("skipping an unreadable sample (%d so far): %s", bad, reason)
        if bad > self.corrupt * self.stored:
            raise UserError(
                f"{bad} of {self.stored} samples are unreadable, more than "
                f"loader.corrupt={self.corrupt:g} of them: delete their shards and run `glissando "
                f"prepare` again, or allow more; the last: {reason}"
            )

    def _leave_alone(self, which: int, reason: Lost) -> None:
        now = time.monotonic()
        self._until[which] = now + AGAIN
        away = [shard for shard, until in enumerate(self._until.tolist()) if until > now]
        samples = sum(self.counts[shard] for shard in away)
        log.warning(
            "going on without a shard that cannot be read (%d of %d now): %s",
            len(away), len(self.shards), reason,
        )  # fmt: skip
        if samples > self.lost * self.stored:
            raise UserError(
                f"{len(away)} of {len(self.shards)} shards cannot be read, with more than "
                f"loader.lost={self.lost:g} of the samples: {reason}"
            ) from reason


def open_stream(
    root: Path | str,
    split: str,
    seconds: float | None,
    batch_size: int,
    train: bool | None = None,
    cache: bool = False,
    **options: Any,
) -> ClipStream:
    """A stream of one split of a prepared dataset, audio or latents, by its ``dataset.json``.

    ``train`` defaults to whether the split is "train"; ``cache`` keeps what was decoded in memory
    (each worker its own copy, so with no workers, for small sets). ``options``: ClipStream's.
    Raises UserError when there is no such dataset or the split is empty.
    """
    facts = read_dataset(root)
    found = facts["splits"].get(split, {"samples": 0})
    if not found["samples"]:
        raise UserError(
            f"the split {split!r} of {root} is empty: prepare more (data.clips=), or a larger "
            f"share of it (data.splits.{split}=)"
        )
    memory: dict | None = {} if cache else None
    reader = (
        LatentReader(facts["sample_rate"] / facts["hop"], memory)
        if facts["kind"] == "latent"
        else AudioReader(facts["sample_rate"], facts["channels"], memory)
    )
    train = split == "train" if train is None else train
    return ClipStream(
        open_shards(root, split),
        reader,
        seconds,
        batch_size,
        train,
        counts=found["counts"],
        sources=found.get("sources"),
        weights=facts.get("weights", (1.0,)),
        **options,
    )


def collate(pieces: Sequence[Piece], length: int | None = None) -> Batch:
    """Pieces side by side, padded with zeros at the end to ``length`` (None: the longest).

    3-d data are latents, 2-d data waveforms. The mask is None when nothing is padded.
    """
    lengths = [piece.data.shape[-1] for piece in pieces]
    frames = max(lengths) if length is None else length
    data = torch.empty(len(pieces), *pieces[0].data.shape[:-1], frames)
    for row, piece, own in zip(data, pieces, lengths, strict=True):
        if own < frames:
            row[..., own:] = 0
            row = row[..., :own]
        row.copy_(torch.from_numpy(piece.data))
    mask = None
    if min(lengths) < frames:
        mask = torch.arange(frames) < torch.tensor(lengths)[:, None]
    latent = data.dim() == 4
    return Batch(
        waveform=None if latent else data,
        latent=data if latent else None,
        attributes=[piece.attributes for piece in pieces],
        mask=mask,
        keys=[piece.key for piece in pieces],
    )
