"""How fast batches come: crops out of long FLAC files, and cached latents, against WebDataset.

    python benchmarks/data.py [--files 12] [--seconds 180] [--crop 1.5] [--latents 1000] [--turns 5]

One process, so the figures are of one loader worker. "plain" is webdataset.WebDataset that decodes
each file whole and then cuts; its samples come in the order of the tar, ours shuffled. The raw
read is the same tars from end to end in pieces of 1 MiB. "cached" is with the files in the page
cache; "disk" is after their pages were dropped from it (posix_fadvise), so that the disk is the
limit. All of a case are measured in turn, ``--turns`` times, and each ratio is of one turn.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from measure import Row, show, spread
from torch.nn.functional import avg_pool1d
from webdataset.compat import WebDataset

from glissando.datasets.base import Clip
from glissando.datasets.latents import encode_dataset
from glissando.datasets.prepare import prepare
from glissando.datasets.shards import read_dataset, shard_paths
from glissando.datasets.stream import open_stream

RATE = 44100
HOP = 1024
CHANNELS = 64  # of a latent: 64 values at 43 Hz


@dataclass(frozen=True)
class Piece:
    key: str
    seed: int


@dataclass(frozen=True)
class Music:
    """Stereo files of decaying harmonic tones over a little noise: FLAC packs them like music."""

    files: int
    seconds: float
    name: str = "benchmark"

    def settings(self):
        return {"files": self.files, "seconds": self.seconds}

    def jobs(self):
        return {"train": [Piece(f"piece{i:04d}", i) for i in range(self.files)]}

    def make(self, job):
        rng = np.random.default_rng(job.seed)
        time_axis = np.arange(round(self.seconds * RATE)) / RATE
        wave = rng.normal(0, 0.003, (2, len(time_axis)))
        beat = np.exp(-4 * (time_axis % 0.5))
        for hz in 55 * 2 ** (rng.integers(0, 36, 6) / 12):
            wave += 0.08 * rng.random((2, 1)) * beat * np.sin(2 * np.pi * hz * time_axis)
        facts = {"caption": "a benchmark", "seconds_total": self.seconds}
        return Clip(job.key, wave.astype(np.float32), RATE, facts)


def encode(wave: torch.Tensor) -> torch.Tensor:
    """(B, 2, L) -> (B, 64, 1, T): no autoencoder, only numbers of the right shape."""
    mean = avg_pool1d(wave.mean(1, keepdim=True), HOP, ceil_mode=True)
    scale = torch.linspace(-3, 3, CHANNELS).view(1, CHANNELS, 1)
    return (mean * scale).unsqueeze(2)


def rate(run: Callable[[], int], least: float = 1.0) -> float:
    """What ``run`` counts, a second, over at least ``least`` seconds."""
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < least:
        done += run()
    return done / (time.perf_counter() - started)


def cold(tars: list[Path], run: Callable[[], int]) -> float:
    """What ``run`` counts, a second, when the tars must come from the disk."""
    for tar in tars:
        with tar.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    started = time.perf_counter()
    return run() / (time.perf_counter() - started)


def plain_audio(tars: list[Path], crop: float) -> int:
    rng = np.random.default_rng(0)
    done = 0
    for sample in WebDataset([str(tar) for tar in tars], shardshuffle=False):
        wave, _ = soundfile.read(io.BytesIO(sample["flac"]), dtype="float32")
        start = rng.integers(len(wave) - round(crop * RATE))
        torch.from_numpy(wave[start : start + round(crop * RATE)].T.copy())
        done += 1
    return done


def plain_latents(tars: list[Path]) -> int:
    dataset: Any = WebDataset([str(tar) for tar in tars], shardshuffle=False).decode()
    return sum(torch.from_numpy(sample["npy"].astype(np.float32)) is not None for sample in dataset)


def raw(tars: list[Path]) -> int:
    """Bytes of the tars, read from end to end."""
    done = 0
    for tar in tars:
        with tar.open("rb", buffering=0) as file:
            while piece := file.read(2**20):
                done += len(piece)
    return done


def turn(root: Path, crop: float | None) -> Row:
    """One measurement of everything, of samples a second."""
    tars = shard_paths(root, "train")
    count = read_dataset(root)["splits"]["train"]["samples"]
    size = sum(tar.stat().st_size for tar in tars) / count  # bytes of tar a sample

    def mine() -> int:
        return sum(len(batch) for batch in open_stream(root, "train", crop, min(8, count)))

    def plain() -> int:
        return plain_latents(tars) if crop is None else plain_audio(tars, crop)

    row: Row = {"KB": size / 1e3, "ours": rate(mine), "plain": rate(plain)}
    row |= {"raw": rate(lambda: raw(tars)) / size, "raw_disk": cold(tars, lambda: raw(tars)) / size}
    row["ours_disk"] = cold(tars, mine)
    row["plain_disk"] = cold(tars, plain)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--crop", type=float, default=1.5)
    parser.add_argument("--latents", type=int, default=1000, help="clips of 6 s, as latents")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="every measurement, one line a turn")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        audio, short, latents = (Path(folder, name) for name in ("audio", "short", "latents"))
        prepare(Music(args.files, args.seconds), audio)
        prepare(Music(args.latents, 6.0), short)
        encode_dataset(short, latents, encode, "benchmark", HOP)
        crops, whole = f"{args.crop:g} s of {args.seconds:g} s FLAC", "whole latents of 6 s"
        for case, root, crop in ((crops, audio, args.crop), (whole, latents, None)):
            turns = [turn(root, crop) for _ in range(args.turns)]
            rows += [{"case": case, **each} for each in turns] if args.json else [
                {"case": case, "turns": turns}
            ]  # fmt: skip

    def of(over: str, under: str | None = None, form: str = ".3g") -> Callable[[Row], str]:
        return lambda row: spread(
            [t[over] / (t[under] if under else 1) for t in row["turns"]], form
        )

    show("python benchmarks/data.py " + " ".join(sys.argv[1:]), rows, {
        "one worker": lambda row: row["case"],
        "KB of tar a sample": of("KB"),
        "samples/s, cached": of("ours"),
        "of plain, cached": of("ours", "plain"),
        "of raw read, cached": of("ours", "raw", ".2%"),
        "samples/s, disk": of("ours_disk"),
        "of plain, disk": of("ours_disk", "plain_disk"),
        "of raw read, disk": of("ours_disk", "raw_disk", ".2%"),
    }, args.json)  # fmt: skip


if __name__ == "__main__":
    main()
