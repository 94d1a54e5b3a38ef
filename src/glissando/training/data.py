"""The data module: prepared shards as endless batches, with a position that can be resumed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from glissando.datasets.base import Batch
from glissando.datasets.stream import ClipStream, open_stream
from glissando.errors import UserError
from glissando.samplers.noise import scramble


class Endless(IterableDataset):
    """Epochs of a stream, one after the other, from ``position`` samples into ``epoch``.

    Batch g goes to worker g mod n, so the sequence is the same whatever the number of workers,
    and Lightning sees one epoch without end: its own epoch counting cannot disturb a resumption.
    """

    def __init__(self, stream: ClipStream, epoch: int = 0, position: int = 0) -> None:
        super().__init__()
        self.stream = stream
        self.epoch, self.position = settled(stream, epoch, position)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        first, apart = (worker.id, worker.num_workers) if worker else (0, 1)
        epoch, position = self.epoch, self.position
        number = 0  # batches since the start, over all workers
        while True:
            skip = (first - number) % apart
            yield from self.stream.batches(epoch, 0, skip, apart, position)
            number += max(1, (self.stream.samples - position) // _together(self.stream))
            epoch, position = epoch + 1, 0


def _together(stream: ClipStream) -> int:
    """Samples that all ranks consume in a step."""
    return stream.batch_size * stream.world


def settled(stream: ClipStream, epoch: int, position: int) -> tuple[int, int]:
    """The place itself, or the next epoch's beginning where too little is left for a step."""
    left = stream.samples - position
    return (epoch, position) if not position or left >= _together(stream) else (epoch + 1, 0)


class Clips(L.LightningDataModule):
    """Train and validation batches of a prepared dataset folder.

    Args:
        root: the folder, audio or latents.
        batch_size, seconds, workers, cache: as ``open_stream`` and DataLoader take them.
        seed: of order and crops.
        valid_seconds: length of a crop to validate with, where it is another.
        corrupt, lost: shares of the samples that may be unreadable, or in shards that no server
            gives, before the run ends (``ClipStream``).
    """

    def __init__(
        self,
        root: str,
        batch_size: int,
        seconds: float | None = None,
        workers: int = 0,
        cache: bool = False,
        seed: int = 0,
        valid_seconds: float | None = None,
        corrupt: float = 0.05,
        lost: float = 0.5,
    ) -> None:
        super().__init__()
        for name, number, least in (("batch_size", batch_size, 1), ("workers", workers, 0)):
            if not isinstance(number, int) or number < least:
                raise UserError(
                    f"loader.{name} must be a whole number from {least} on, not {number}"
                )
        if seconds is not None and seconds <= 0:
            raise UserError(f"loader.seconds must be above 0, or null for whole clips: {seconds}")
        for name, share in (("corrupt", corrupt), ("lost", lost)):
            if not isinstance(share, (int, float)) or not 0 <= share <= 1:
                raise UserError(f"loader.{name} must be a share from 0 to 1, not {share}")
        self.root, self.batch_size, self.seconds = root, batch_size, seconds
        self.valid_seconds = valid_seconds
        self.workers, self.cache, self.seed = workers, cache, seed
        self.corrupt, self.lost = corrupt, lost
        self.consumed = 0  # batches of this rank since the beginning of training
        self.place = (0, 0)  # epoch, and how many of its samples all ranks have consumed

    def stream(self, split: str) -> ClipStream:
        """The clips of a split, in batches of this rank."""
        seconds = self.seconds
        if split == "valid" and self.valid_seconds is not None:
            seconds = self.valid_seconds
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        machines = trainer.num_nodes if trainer else 1
        return open_stream(
            self.root, split, seconds, self.batch_size, cache=self.cache and not self.workers,
            seed=self.seed, rank=rank, world=world, machines=machines, corrupt=self.corrupt,
            lost=self.lost,
        )  # fmt: skip

    def train_dataloader(self) -> DataLoader:
        self._training = Endless(self.stream("train"), *self.place)
        self.place = self._training.epoch, self._training.position
        return self._loader(self._training)

    def advance(self) -> None:
        """One batch of the training loader has been consumed."""
        stream, (epoch, position) = self._training.stream, self.place
        self.consumed += 1
        self.place = settled(stream, epoch, position + _together(stream))

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.stream("valid"))

    def _loader(self, dataset: IterableDataset) -> DataLoader:
        return DataLoader(
            dataset, batch_size=None, num_workers=self.workers,
            persistent_workers=self.workers > 0, worker_init_fn=_ignore_interrupts,
        )  # fmt: skip

    def transfer_batch_to_device(self, batch: Batch, device: Any, dataloader_idx: int) -> Batch:
        return batch.move(device, non_blocking=True)


def _ignore_interrupts(_: int) -> None:
    """A terminal sends Ctrl-C to workers too, which would die while the last step still ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Position(L.Callback):
    """Counts the batches consumed and keeps the count in the checkpoint.

    A callback and not the loader, because workers read ahead of what training has used. The place
    is kept in samples: with another batch size or number of processes the epoch goes on with what
    is left of it, no sample repeated or lost. The count of batches seeds the noise of each batch:
    a resumed run draws what the unbroken one would have drawn, whatever validations and demos drew
    in between, and no generator's state need be kept.
    """

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        clips = _clips(trainer)
        torch.manual_seed(scramble(scramble(clips.seed, trainer.global_rank), clips.consumed))
        # Lightning numbers logged steps by this counter, which is one off after some resumptions.
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        _clips(trainer).advance()

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        clips = _clips(trainer)
        checkpoint["consumed"], checkpoint["place"] = clips.consumed, list(clips.place)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        clips = _clips(trainer)
        clips.consumed, clips.place = checkpoint["consumed"], tuple(checkpoint.get("place", (0, 0)))


def _clips(trainer: L.Trainer) -> Clips:
    clips = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(clips, Clips)
    return clips
