"""How fast batches come: crops out of long FLAC files, and cached latents, against WebDataset.

    python benchmarks/data.py [--files 12] [--seconds 180] [--crop 1.5] [--latents 6000] [--turns 5]

Crops are read in one process without loader workers, latents so and by one and two of them.
"plain" is webdataset.WebDataset in one process that decodes each file whole and then cuts; its
samples come in the order of the tar, ours shuffled. The raw read is the same tars from end to end,
in pieces of 1 MiB, with what the kernel reads ahead by itself. "cached" is with the files in the
page cache; "disk" is one epoch after their pages were dropped from it (posix_fadvise), so that the
disk is the limit; workers live and indexes are parsed by then, as in every epoch but the first.
All of a row are measured in turn, ``--turns`` times, and each ratio is of one turn. "processor" is
the time that this process and the kernel on its behalf computed for a sample, from the disk.
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
from torch.utils.data import DataLoader
from webdataset.compat import WebDataset

from glissando.datasets.base import Clip
from glissando.datasets.latents import encode_dataset
from glissando.datasets.prepare import prepare
from glissando.datasets.shards import shard_paths
from glissando.datasets.stream import open_stream

RATE = 44100
LATENT_RATE, HOP = 11025, 256  # of the audio that becomes latents of 64 values at 43 Hz
CHANNELS = 64
BATCH = 16  # of latents, as conf/stage/diffusion.yaml has it


@dataclass(frozen=True)
class Piece:
    key: str
    seed: int


@dataclass(frozen=True)
class Music:
    """Files of decaying harmonic tones over a little noise: FLAC packs them like music."""

    files: int
    seconds: float
    rate: int = RATE
    channels: int = 2
    name: str = "benchmark"

    def settings(self):
        return {"files": self.files, "seconds": self.seconds}

    def jobs(self):
        return {"train": [Piece(f"piece{i:04d}", i) for i in range(self.files)]}

    def make(self, job):
        rng = np.random.default_rng(job.seed)
        time_axis = np.arange(round(self.seconds * self.rate)) / self.rate
        wave = rng.normal(0, 0.003, (self.channels, len(time_axis)))
        beat = np.exp(-4 * (time_axis % 0.5))
        for hz in 55 * 2 ** (rng.integers(0, 36, 6) / 12):
            wave += (
                0.08 * rng.random((self.channels, 1)) * beat * np.sin(2 * np.pi * hz * time_axis)
            )
        facts = {"caption": "a benchmark", "seconds_total": self.seconds}
        return Clip(job.key, wave.astype(np.float32), self.rate, facts)


def encode(wave: torch.Tensor) -> torch.Tensor:
    """(B, C, L) -> (B, 64, 1, T): no autoencoder, only numbers of the right shape."""
    mean = avg_pool1d(wave.mean(1, keepdim=True), HOP, ceil_mode=True)
    scale = torch.linspace(-3, 3, CHANNELS).view(1, CHANNELS, 1)
    return (mean * scale).unsqueeze(2)


def rate(run: Callable[[], int], least: float = 1.0) -> float:
    """What ``run`` counts, a second, over at least ``least`` seconds."""
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < least:
        done += run()
    return done / (time.perf_counter() - started)


def cold(tars: list[Path], run: Callable[[], int]) -> tuple[float, float]:
    """What ``run`` counts when the tars must come from the disk: a second of the clock, and a
    second of this process's processor time."""
    for tar in tars:
        with tar.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    started, computed = time.perf_counter(), time.process_time()
    done = run()
    return done / (time.perf_counter() - started), done / (time.process_time() - computed)


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


@dataclass
class Case:
    """What one row of the table measures."""

    name: str
    root: Path
    crop: float | None
    batch: int
    workers: int

    def __post_init__(self) -> None:
        self.tars = shard_paths(self.root, "train")
        stream = open_stream(self.root, "train", self.crop, self.batch)
        self.samples = stream.samples
        self.loader = DataLoader(
            stream, batch_size=None, num_workers=self.workers, persistent_workers=self.workers > 0
        )

    def ours(self) -> int:
        return sum(len(batch) for batch in self.loader)

    def plain(self) -> int:
        return plain_latents(self.tars) if self.crop is None else plain_audio(self.tars, self.crop)

    def turn(self) -> Row:
        """One measurement of everything, of samples a second."""
        size = sum(tar.stat().st_size for tar in self.tars) / self.samples  # bytes a sample
        row: Row = {"KB": size / 1e3, "ours": rate(self.ours), "plain": rate(self.plain)}
        row["raw"] = rate(lambda: raw(self.tars)) / size
        row["raw_disk"], computed = (r / size for r in cold(self.tars, lambda: raw(self.tars)))
        row["ours_disk"], ours = cold(self.tars, self.ours)
        row["plain_disk"], _ = cold(self.tars, self.plain)
        if not self.workers:  # theirs is not known before they end
            row["us"], row["us_raw"] = 1e6 / ours, 1e6 / computed
        return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--crop", type=float, default=1.5)
    parser.add_argument("--latents", type=int, default=6000, help="clips of 6 s, as latents")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="every measurement, one line a turn")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        audio, short, latents = (Path(folder, name) for name in ("audio", "short", "latents"))
        prepare(Music(args.files, args.seconds), audio)
        prepare(Music(args.latents, 6.0, LATENT_RATE, channels=1), short)
        encode_dataset(short, latents, encode, "benchmark", HOP, batch_size=100)
        crops = f"{args.crop:g} s of {args.seconds:g} s FLAC"
        cases = [Case(crops, audio, args.crop, min(8, args.files), 0)]
        cases += [Case("latents of 6 s", latents, None, BATCH, workers) for workers in (0, 1, 2)]
        for case in cases:
            turns = [case.turn() for _ in range(args.turns)]
            about = {"case": case.name, "workers": case.workers}
            rows += [about | each for each in turns] if args.json else [about | {"turns": turns}]

    def of(over: str, under: str | None = None, form: str = ".3g") -> Callable[[Row], str]:
        def cell(row: Row) -> str:
            turns = [turn for turn in row["turns"] if over in turn]
            ratios = [turn[over] / (turn[under] if under else 1) for turn in turns]
            return spread(ratios, form) if ratios else ""

        return cell

    show("python benchmarks/data.py " + " ".join(sys.argv[1:]), rows, {
        "what": lambda row: row["case"],
        "workers": lambda row: str(row["workers"]),
        "KB of tar a sample": of("KB"),
        "samples/s, cached": of("ours"),
        "of plain, cached": of("ours", "plain"),
        "of raw read, cached": of("ours", "raw", ".2%"),
        "samples/s, disk": of("ours_disk"),
        "of plain, disk": of("ours_disk", "plain_disk"),
        "of raw read, disk": of("ours_disk", "raw_disk", ".2%"),
        "processor us": of("us"),
        "of raw read": of("us_raw"),
    }, args.json)  # fmt: skip


if __name__ == "__main__":
    main()
