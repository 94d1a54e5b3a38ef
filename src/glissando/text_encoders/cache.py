"""Runs a text encoder once per distinct caption, ever: results in memory and on disk."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from glissando.text_encoders.base import Text, TextEncoder, check_caption
from glissando.text_encoders.store import Store

log = logging.getLogger(__name__)
HALVES = ("tokens", "pooled")


class TextCache:
    """A text encoder with a memory.

    Results are float16 wherever they come from, so a run gives the same numbers with a cold and a
    warm cache. ``halves`` (``tokens``, ``pooled``) may be narrowed to what somebody reads: the
    other half is then neither stored nor returned. Each half has its own file, so that a global
    embedding does not cost the disk (or the reading) of its tokens.

    Args:
        encoder: loaded only when a caption is not in the cache.
        folder: the files go to ``folder/<encoder.name>/``; None keeps everything in memory only.
        batch: captions encoded at a time.
        memory: bytes of recently used results kept in memory.

    A disk that is full or read-only costs a warning, not the run.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        folder: str | Path | None = None,
        batch: int = 32,
        memory: int = 256 << 20,
    ) -> None:
        self.encoder = encoder
        self.folder = None if folder is None else Path(folder)
        self.batch = batch
        self.halves: Collection[str] = HALVES
        self._recent = Recent(memory)
        self._stores: dict[str, Store] = {}
        self._writable = folder is not None

    def tokens(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """(B, S, tokens_dim) float32, zero where padded, and mask (B, S) bool; on the CPU."""
        found = self._all("tokens", captions)
        rows = [torch.from_numpy(found[caption].astype(np.float32)) for caption in captions]
        lengths = torch.tensor([len(row) for row in rows])
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return tokens, torch.arange(tokens.shape[1]) < lengths.unsqueeze(1)

    def pooled(self, captions: list[str]) -> Tensor:
        """(B, pooled_dim) float32, on the CPU."""
        found = self._all("pooled", captions)
        rows = np.concatenate([found[caption] for caption in captions])
        return torch.from_numpy(rows.astype(np.float32))

    def warm(self, captions: Iterable[str]) -> int:
        """Encode what is not there yet, with a progress bar; returns how many that were.

        With several processes, call it on one of them first: the others then only read.
        """
        distinct = list(dict.fromkeys(check_caption(caption) for caption in captions))
        missing = [c for c in distinct if not all(self._recent.has((h, c)) for h in self.halves)]
        if self.folder is not None:
            keys = {caption: _key(caption) for caption in missing}
            stored = [self._store(half).has(keys.values()) for half in self.halves]
            missing = [c for c, key in keys.items() if not all(key in half for half in stored)]
        self._encode(missing, progress=True)
        return len(missing)

    def __deepcopy__(self, memo: dict) -> TextCache:
        """Shared by a copied conditioner, as its frozen encoder is."""
        return self

    def _all(self, half: str, captions: list[str]) -> dict[str, np.ndarray]:
        if half not in self.halves:
            raise ValueError(f"this cache was narrowed to {list(self.halves)}: no {half!r}")
        found = self._known(half, captions)
        missing = [caption for caption in dict.fromkeys(captions) if caption not in found]
        for caption, row in self._encode(missing).items():
            found[caption] = row[half]
        return found

    def _known(self, half: str, captions: list[str]) -> dict[str, np.ndarray]:
        """Caption -> (rows, dim) float16, of those that memory or disk has."""
        found = {c: row for c in captions if (row := self._recent.get((half, c))) is not None}
        keys = {_key(caption): caption for caption in captions if caption not in found}
        if keys and self.folder is not None:
            for key, row in self._store(half).read(keys).items():
                found[keys[key]] = self._recent.put((half, keys[key]), row)
        return found

    def _encode(self, captions: list[str], progress: bool = False) -> dict[str, dict]:
        """Caption -> half -> (rows, dim) float16, encoded, remembered and stored.

        Under ``progress`` (a whole data set) nothing is returned, so that it may be of any size.
        """
        result: dict[str, dict[str, np.ndarray]] = {}
        # Neighbours in length share a batch: less padding to compute.
        batches = list(_chunks(sorted(captions, key=len), self.batch))
        for part in _with_bar(batches, len(captions)) if progress else batches:
            encoded = dict(zip(part, _split(self.encoder(part)), strict=True))
            for caption, row in encoded.items():
                for half in self.halves:
                    self._recent.put((half, caption), row[half])
            self._save(encoded)
            if not progress:
                result.update(encoded)
        return result

    def _save(self, encoded: dict[str, dict[str, np.ndarray]]) -> None:
        if not self._writable:
            return
        try:
            for half in self.halves:
                self._store(half).write({_key(c): row[half] for c, row in encoded.items()})
        except OSError as error:
            log.warning("new text embeddings are kept in memory only: %s", error)
            self._writable = False

    def _store(self, half: str) -> Store:
        if half not in self._stores:
            assert self.folder is not None
            dim = self.encoder.tokens_dim if half == "tokens" else self.encoder.pooled_dim
            self._stores[half] = Store(self.folder / self.encoder.name, half, dim)
        return self._stores[half]


class Recent:
    """The most recently used arrays, up to so many bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._size = 0
        self._rows: OrderedDict[tuple[str, str], np.ndarray] = OrderedDict()

    def has(self, key: tuple[str, str]) -> bool:
        return key in self._rows

    def get(self, key: tuple[str, str]) -> np.ndarray | None:
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
        return row

    def put(self, key: tuple[str, str], row: np.ndarray) -> np.ndarray:
        old = self._rows.pop(key, None)
        self._size += row.nbytes - (0 if old is None else old.nbytes)
        self._rows[key] = row
        while self._size > self.limit and self._rows:
            self._size -= self._rows.popitem(last=False)[1].nbytes
        return row


def _split(text: Text) -> Iterator[dict[str, np.ndarray]]:
    """One caption's float16 arrays at a time, without padding; beyond float16's range, clipped."""
    largest = float(torch.finfo(torch.float16).max)
    tokens, pooled = (x.clamp(-largest, largest).half().cpu() for x in (text.tokens, text.pooled))
    for row, mask, vector in zip(tokens, text.mask.cpu(), pooled, strict=True):
        yield {"tokens": row[mask].numpy(), "pooled": vector[None].numpy()}


def _key(caption: str) -> bytes:
    return hashlib.blake2b(caption.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _chunks(items: list[str], size: int) -> Iterator[list[str]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _with_bar(batches: list[list[str]], total: int) -> Iterator[list[str]]:
    """The batches, with a bar that counts captions; silent when there are few."""
    if len(batches) < 4:
        yield from batches
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        "encoding captions", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    ) as bar:
        task = bar.add_task("", total=total)
        for batch in batches:
            yield batch
            bar.advance(task, len(batch))
