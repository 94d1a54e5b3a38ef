"""An append-only file of float16 arrays by key, safe under several processes and power cuts."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping
from io import BufferedWriter
from pathlib import Path

import numpy as np

# What the index file holds per array. The payload lies in the data file at `offset`.
RECORD = np.dtype([("key", "V16"), ("offset", "<u8"), ("rows", "<u4"), ("crc", "<u4")], align=False)


class Store:
    """Maps a 16-byte key to a float16 array (rows, dim); ``name.data`` and ``name.index``.

    Writers take a file lock, append data, flush it to the disk, then append its index records; so
    a record never points at what is not there. What a killed writer left (data without a record,
    a torn record) is cut off by the next writer. Readers need no lock: they only ever look at
    whole records, and a checksum refuses a damaged array, which then counts as missing.
    The index is held in memory (some 200 bytes an array); arrays are read from the file on demand.
    Files are opened per call, so forked processes share no file position.
    """

    def __init__(self, folder: Path, name: str, dim: int) -> None:
        self.dim = dim
        self._data = folder / f"{name}.data"
        self._index = folder / f"{name}.index"
        self._lock = folder / f"{name}.lock"
        self._where: dict[bytes, tuple[int, int, int]] = {}
        self._seen = 0  # bytes of the index already read

    def __len__(self) -> int:
        return len(self._where)

    def has(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of the keys that are recorded, without reading (or checking) their arrays."""
        self._refresh()
        return {key for key in keys if key in self._where}

    def read(self, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """The arrays of those keys that are here (also what other processes have added)."""
        keys = list(keys)
        if any(key not in self._where for key in keys):
            self._refresh()
        wanted = [key for key in keys if key in self._where]
        if not wanted or not self._data.exists():
            return {}
        found = {}
        with self._data.open("rb") as file:
            for key in wanted:
                offset, rows, crc = self._where[key]
                file.seek(offset)
                payload = file.read(rows * self.dim * 2)
                if len(payload) == rows * self.dim * 2 and zlib.crc32(payload) == crc:
                    found[key] = np.frombuffer(payload, "<f2").reshape(rows, self.dim)
                else:
                    del self._where[key]  # damaged: to be written again, later records win
        return found

    def write(self, arrays: Mapping[bytes, np.ndarray]) -> None:
        """Append arrays (rows, dim) of any float type; those already here are left alone.

        Raises:
            OSError: the disk is full or read-only; nothing half-written will be taken for whole.
        """
        from filelock import FileLock

        self._data.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock):
            self._refresh()
            new = {key: array for key, array in arrays.items() if key not in self._where}
            if not new:
                return
            end = self._whole_length()
            with self._data.open("ab") as data, self._index.open("ab") as index:
                data.truncate(end)
                index.truncate(self._seen)
                payloads = [np.ascontiguousarray(array, "<f2").tobytes() for array in new.values()]
                records = np.zeros(len(new), RECORD)
                for record, key, payload in zip(records, new, payloads, strict=True):
                    record["key"] = np.void(key)
                    record["offset"] = end
                    record["rows"] = len(payload) // (2 * self.dim)
                    record["crc"] = zlib.crc32(payload)
                    end += len(payload)
                    data.write(payload)
                _to_disk(data)
                index.write(records.tobytes())
                _to_disk(index)
            self._refresh()

    def _refresh(self) -> None:
        """Read the index records that have been added since the last look."""
        whole = self._index.exists() and self._data.exists()
        size = self._index.stat().st_size if whole else 0
        if size < self._seen:  # somebody deleted the cache
            self._where.clear()
            self._seen = 0
        if not size:
            return
        with self._index.open("rb") as file:
            file.seek(self._seen)
            raw = file.read()
        raw = raw[: len(raw) - len(raw) % RECORD.itemsize]
        for key, offset, rows, crc in np.frombuffer(raw, RECORD).tolist():
            self._where[key] = (offset, rows, crc)
        self._seen += len(raw)

    def _whole_length(self) -> int:
        """Where the last recorded array ends; what lies beyond belongs to nobody."""
        if not self._seen:
            return 0
        with self._index.open("rb") as file:
            file.seek(self._seen - RECORD.itemsize)
            last = np.frombuffer(file.read(RECORD.itemsize), RECORD)[0]
        return int(last["offset"]) + int(last["rows"]) * self.dim * 2


def _to_disk(file: BufferedWriter) -> None:
    file.flush()
    os.fsync(file.fileno())
