"""How fast batches come: crops out of long FLAC files, and cached latents, against WebDataset.

    python benchmarks/data.py [--files 12] [--seconds 180] [--crop 1.5]

Everything runs in one process. "plain" is webdataset.WebDataset that decodes each file whole and
then cuts; its samples come in the order of the tar, ours shuffled. The raw read is the same tar
read from end to end in pieces of 1 MiB (from the page cache, like all others here).
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import avg_pool1d
from webdataset.compat import WebDataset

from glissando.datasets.base import Clip
from glissando.datasets.latents import encode_dataset
from glissando.datasets.prepare import prepare
from glissando.datasets.shards import shard_paths
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


def rate(run: Callable[[], int], least: float = 2.0) -> float:
    """What ``run`` counts, a second, over at least ``least`` seconds after one warm-up."""
    run()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < least:
        done += run()
    return done / (time.perf_counter() - started)


def ours(root: Path, crop: float | None, batch_size: int) -> int:
    return sum(len(batch) for batch in open_stream(root, "train", crop, batch_size))


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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--crop", type=float, default=1.5)
    parser.add_argument("--latents", type=int, default=1000, help="clips of 6 s, as latents")
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(title=f"python benchmarks/data.py --files {args.files} --seconds "
                  f"{args.seconds:g} --crop {args.crop:g} --latents {args.latents}")  # fmt: skip
    table.add_column("one process")
    for column in ("samples/s", "MB/s of tar", "against plain"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        audio, short, latents = (Path(folder, name) for name in ("audio", "short", "latents"))
        prepare(Music(args.files, args.seconds), audio)
        prepare(Music(args.latents, 6.0), short)
        encode_dataset(short, latents, encode, "benchmark", HOP)
        for name, root, crop, count, plain in (
            (f"{args.crop:g} s of {args.seconds:g} s FLAC", audio, args.crop, args.files, None),
            ("6 s latents", latents, None, args.latents, plain_latents),
        ):
            tars = shard_paths(root, "train")
            size = sum(tar.stat().st_size for tar in tars)
            batch = min(8, count)
            mine = rate(lambda root=root, crop=crop, batch=batch: ours(root, crop, batch))
            if plain is None:
                other = rate(lambda tars=tars: plain_audio(tars, args.crop))
            else:
                other = rate(lambda tars=tars, plain=plain: plain(tars))
            read = rate(lambda tars=tars: raw(tars))
            row = f"{size / 1e6 / count:.3f} MB each"
            table.add_row(f"{name}: ClipStream", f"{mine:.0f}",
                          f"{mine * size / count / 1e6:.0f}" if crop is None else "-",
                          f"{mine / other:.1f}x")  # fmt: skip
            table.add_row(f"{name}: plain", f"{other:.0f}", f"{other * size / count / 1e6:.0f}", "")
            table.add_row(
                f"raw read ({row})", f"{read * count / size:.0f}", f"{read / 1e6:.0f}", ""
            )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
