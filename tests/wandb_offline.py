"""What an offline run of Weights & Biases holds, read back from its file."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

BLOCK = 32768
HEAD = 7  # of the file (":W&B", its magic number and version) and of each piece of a record


class Logged(NamedTuple):
    """Its configuration, all rows of numbers, its artifacts, and whether it came to an end."""

    config: dict[str, Any]
    rows: list[dict[str, Any]]
    artifacts: list[Any]  # ArtifactRecord
    ended: bool


def records(file: Path) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format: blocks, in which lie whole records or pieces.

    https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    data, place, pieces = file.read_bytes(), HEAD, b""
    assert data[:4] == b":W&B"
    while place + HEAD <= len(data):
        if BLOCK - place % BLOCK < HEAD:  # what is left of a block is too short for a head
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        pieces += data[place + HEAD : place + HEAD + length]
        place += HEAD + length
        if kind in (1, 4):  # whole, or the last piece
            yield pieces
            pieces = b""


def read(folder: Path) -> Logged:
    """Of the one run below a run folder's ``wandb/``."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    logged = Logged({}, [], [], False)
    for data in records(file):
        record = Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            logged.config.update(
                {e.key: json.loads(e.value_json) for e in record.run.config.update}
            )
        elif kind == "history":
            items = record.history.item
            logged.rows.append({
                ".".join(e.nested_key): json.loads(e.value_json) for e in items
            })  # fmt: skip
        elif kind == "artifact":
            logged.artifacts.append(record.artifact)
        elif kind == "exit":
            logged = logged._replace(ended=True)
    return logged
