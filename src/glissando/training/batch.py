"""``trainer.find_batch_size=true``: the largest batch that fits, found before training.

It is tried out: with all flags in force a copy of the model makes steps on the longest clips, and
is thrown away. A GPU says itself when its memory is at its end. A processor does not, the system
ends the process: so there, and where several processes would wait for the one that failed, only
what must fit by what was measured before is tried.
"""

from __future__ import annotations

import copy
import gc
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader

from glissando.build import Run
from glissando.checkpoints.files import read_training
from glissando.cli.failure import is_out_of_memory
from glissando.datasets.base import Batch, Refused
from glissando.datasets.samples import Crop
from glissando.datasets.stream import ClipStream, collate
from glissando.errors import UserError
from glissando.training.adversary import AdversarialModule
from glissando.training.data import Clips
from glissando.training.ema import EMA
from glissando.training.memory import GIB, Peak, room
from glissando.training.progress import say
from glissando.training.trainer import broken_off, compile_blocks, trainer_of

FINE = 32
"""Where memory is measured and not asked for, less than this part of a batch more is not sought."""


def find_batch(cfg: DictConfig, run: Run) -> int:
    """The most clips that fit into a process, the same for all processes; says so.

    ``run`` is what ``cfg`` builds, and is of no use afterwards. Raises UserError where not even
    one clip fits, or where a processor's memory cannot be measured.
    """
    trials = Trials(cfg, run)
    run.prepare()
    found = largest(trials, trials.cap, trials.cautious)
    of = f"{trials.room / GIB:.3g} GiB"
    if not found:
        raise UserError(
            f"not even one clip fits into {of}: lower loader.seconds=, set model.checkpointing="
            "true, take a smaller model=, or trainer=fsdp on several devices"
        )
    every = ", every clip there is" if found == trials.cap else ""
    took = f"{trials.seen[found].peak:.0%} of {of}"
    say(
        f"trainer.find_batch_size: {found} clips a process fit{every} ({took}); "
        f"loader.batch_size={found} trains so without looking"
    )
    return found


def kept_batch(ckpt: Path) -> int:
    """The batch that ``ckpt`` was trained with, by which alone a run goes on exactly; says so."""
    kept = read_training(ckpt, assemble=False)["glissando"]["config"]["loader"]["batch_size"]
    say(
        f"trainer.find_batch_size: the batch stays at {kept}, with which {ckpt} was trained: "
        "another would not go on exactly"
    )
    return kept


class Share(NamedTuple):
    """Of the memory that there is: what a trial took at its ``peak`` (above 1 where it did not fit,
    infinite where it was told so), and ``held``, what of it was there whatever the batch."""

    peak: float
    held: float = 0.0


def largest(share: Callable[[int], Share], cap: int, cautious: bool) -> int:
    """The most rows that fit: doubled until they do not, then bisected; 0 where one does not.

    Args:
        share: tries so many rows.
        cap: most rows that are tried.
        cautious: never tries what ``trusted`` does not allow, and is content with 1 part in
            ``FINE`` less.
    """
    seen: dict[int, Share] = {}
    good, bad = 0, cap + 1
    while True:
        rows = min(2 * good or 1, cap) if bad > cap else (good + bad) // 2
        if cautious and seen:
            rows = min(rows, trusted(seen))
        if rows - good <= (good // FINE if cautious else 0):
            return good
        seen[rows] = share(rows)
        if seen[rows].peak <= 1:
            good = rows
        else:
            bad = rows


def trusted(seen: Mapping[int, Share]) -> int:
    """The most rows that fit by what was ``seen``; 0 where no peak is known.

    The peak is the largest of several moments', each affine in the rows and never below what is
    held: so beyond that n rows take at most n/m of what m rows take. Once the three largest lie on
    a line, it is believed.
    """
    points = sorted((n, each) for n, each in seen.items() if math.isfinite(each.peak))[-3:]
    if not points:
        return 0
    rows, (peak, held) = points[-1]
    slope = max(peak - held, 1e-9) / rows
    if len(points) == 3:
        first, last = ((y.peak - x.peak) / (n - m) for (m, x), (n, y) in pairwise(points))
        if 0 < 0.9 * first <= last <= 1.1 * first:
            slope = last
    return rows + math.floor((1 - peak) / slope)


class Trials:
    """``trials(rows)``: what the steps of a copy of ``run.module`` take of the memory.

    Two steps, for an optimizer has its memory from the first one on; of two batches where
    gradients are accumulated, for more take no more; with the adversary, if there will be one; and
    a batch of validation. Infinite where a single process was told that memory is at its end.
    """

    def __init__(self, cfg: DictConfig, run: Run) -> None:
        self.cfg, self.run = cfg, run
        self.seen: dict[int, Share] = {}
        self.room = 0.0  # bytes, the last trial's
        trainer = trainer_of(cfg, run.module, [])
        self.world = trainer.world_size
        self.cautious = (
            self.world > 1
            or trainer.strategy.root_device.type != "cuda"
            or cfg.trainer.batch_gib is not None
        )

    @property
    def cap(self) -> int:
        """As many rows as there are in an epoch, which ``run`` must have prepared."""
        return max(1, self.run.data.stream("train").samples // self.world)

    def __call__(self, rows: int) -> Share:
        watch = _Watch(self.cfg.trainer.batch_gib)
        share = Share(math.inf)
        try:
            self._steps(rows, watch)
            share = watch.share
        except (RuntimeError, MemoryError) as error:
            if self.world > 1 or not is_out_of_memory(error):
                raise
        gc.collect()  # the trainer and all that it refers to
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self.cfg.compile:  # else what comes next, the run too, were compiled for any batch
            torch._dynamo.reset()
        self.seen[rows], self.room = share, watch.room
        return share

    def _steps(self, rows: int, watch: _Watch) -> None:
        cfg, module = self.cfg, copy.deepcopy(self.run.module)
        accumulate = min(2, cfg.trainer.accumulate_grad_batches)
        batches = 2 * accumulate
        if isinstance(module, AdversarialModule):
            module.accumulate, module.adversarial_start = min(2, module.accumulate), 0
            batches = 2 * module.accumulate
        if cfg.compile:
            compile_blocks(module)
        trainer = trainer_of(
            cfg, module, [watch] if cfg.ema is None else [watch, EMA(cfg.ema)],
            max_epochs=1, max_steps=-1, max_time=None, check_val_every_n_epoch=1,
            val_check_interval=1.0, limit_val_batches=1, num_sanity_val_steps=0,
            accumulate_grad_batches=accumulate, profiler=None, enable_checkpointing=False,
        )  # fmt: skip
        with broken_off():
            trainer.fit(module, _Heaviest(self.run.data, rows, batches))


class _Watch(L.Callback):
    """``share`` of ``room`` (bytes) that a trial took, of all processes the most cautious."""

    def __init__(self, gib: float | None) -> None:
        self.gib = gib
        self.room = 0.0
        self.share = Share(math.inf)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        device = trainer.strategy.root_device
        self._peak = Peak(device)
        beside = getattr(trainer.strategy, "num_processes", 1)  # on this machine
        self.room = room(device, beside) if self.gib is None else self.gib * GIB
        if not (self._peak.exact and self.room):
            raise UserError(
                "trainer.find_batch_size=true measures a processor's memory as Linux tells it, and "
                "this system does not: set loader.batch_size="
            )

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # What optimizers remember; of a processor weights are not counted, see Peak.
        there = [x for optimizer in trainer.optimizers for x in _tensors(optimizer.state)]
        if self._peak.device.type == "cuda":
            there += list(pl_module.parameters())
        of = [self._peak.gib * GIB / self.room, -sum(map(_bytes, there)) / self.room]
        most = torch.tensor(of, device=trainer.strategy.root_device)
        peak, held = trainer.strategy.reduce(most, reduce_op="max").tolist()  # type: ignore[union-attr]
        self.share = Share(peak, -held)


def _tensors(state: Mapping[Any, Mapping[str, Any]]) -> Iterator[Tensor]:
    for memory in state.values():
        yield from (each for each in memory.values() if isinstance(each, Tensor))


def _bytes(tensor: Tensor) -> int:
    """Of a sharded tensor, those of this process."""
    local: Tensor = getattr(tensor, "to_local", lambda: tensor)()
    return local.numel() * local.element_size()


class _Heaviest(Clips):
    """So many ``batches`` of the longest clips, and one of validation, of ``rows`` each."""

    def __init__(self, clips: Clips, rows: int, batches: int) -> None:
        super().__init__(clips.root, rows, clips.seconds, valid_seconds=clips.valid_seconds)
        self.batches = batches

    def train_dataloader(self) -> DataLoader:
        return self._same("train", self.batches)

    def val_dataloader(self) -> DataLoader:
        return self._same("valid", 1)

    def _same(self, split: str, times: int) -> DataLoader:
        stream = self.stream(split)
        batches: Any = [_longest(stream, min(self.batch_size, stream.samples))] * times
        return DataLoader(batches, batch_size=None)


def _longest(stream: ClipStream, rows: int) -> Batch:
    """The longest clips, or any where they are cropped to one length."""
    samples: Iterable[Any] = ((shard, each) for shard in stream.shards for each in shard.samples)
    if stream.length is None:
        samples = sorted(samples, key=lambda pair: -pair[1]["frames"] / pair[1]["rate"])

    def readable() -> Any:
        for shard, sample in samples:
            with suppress(Refused, ValueError, KeyError, OSError, RuntimeError):
                yield stream.reader.read(shard, sample, Crop(stream.length, 0.0))

    pieces = list(islice(readable(), rows))
    if not pieces:
        raise UserError(f"no readable clip in {stream.shards[0].path.parent}")
    return collate([pieces[row % len(pieces)] for row in range(rows)], stream.length)
