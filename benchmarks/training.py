"""What one training step takes: time, memory, arithmetic, for both autoencoders and the DiT.

    python benchmarks/training.py [--steps 7] [--only dit] [overrides of train.py]

Modules, losses, optimizer, moving average and trainer come from train.py's own config through the
project's build code; the data are one batch of noise of the real shape, repeated. A row is a
process of its own, so its peak memory belongs to it. A step is the time from the start of one to
the start of the next, without reading data. Products (matrix products, convolutions, attention)
are counted by torch's FlopCounterMode in one more step; FFTs are not.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import torch
from hydra.utils import get_method
from measure import Row, composed, fresh, peak_memory, products_per_second, show, spread
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from glissando.datasets.base import Batch
from glissando.training.ema import EMA
from glissando.training.trainer import trainer_of

LEAST = 3  # steps that are timed, however slow


def waves(cfg: Any, module: Any) -> Batch:
    """A batch of crops."""
    batch, length = cfg.loader.batch_size, round(cfg.loader.seconds * cfg.data.sample_rate)
    wave = 0.1 * torch.randn(batch, cfg.data.channels, length)
    return Batch(wave, None, [{}] * batch, None, [str(row) for row in range(batch)])


def latents(cfg: Any, module: Any) -> Batch:
    """A batch of whole clips, each with a caption of its own."""
    representation, seconds = module.representation, cfg.data.seconds
    frames = representation.frames(round(seconds * cfg.data.sample_rate))
    batch = cfg.loader.batch_size
    z = torch.randn(batch, representation.channels, representation.freqs, frames)
    timing = {"seconds_start": 0.0, "seconds_total": seconds}
    rows = [{"caption": f"a slow air on the flute, number {row}", **timing} for row in range(batch)]
    return Batch(None, z, rows, None, [row["caption"] for row in rows])


# What is trained: its overrides of train.py, and a function that makes a batch for it.
CASES: dict[str, tuple[list[str], Callable[[Any, Any], Batch]]] = {
    "vae": (["model=vae"], waves),
    "vae_oobleck": (["model=vae_oobleck"], waves),
    "dit adaln_zero": (["model=dit", "conditioning=[adaln_zero]"], latents),
    "dit cross_attention": (["model=dit", "conditioning=[cross_attention]"], latents),
}


class Same(L.LightningDataModule):
    """One batch, ``count`` times."""

    def __init__(self, batch: Batch, count: int) -> None:
        super().__init__()
        self.batches: Any = [batch] * count

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.batches, batch_size=None)

    def transfer_batch_to_device(self, batch: Batch, device: Any, dataloader_idx: int) -> Batch:
        return batch.move(device)


class Watch(L.Callback):
    """Times ``steps`` steps after the first, then counts the products of one more.

    After ``budget`` seconds it times no further than ``LEAST``.
    """

    def __init__(self, steps: int, budget: float) -> None:
        self.steps, self.budget = steps, budget
        self.counter = FlopCounterMode(display=False)
        self.before = self.peak = 0.0
        self._marks: list[Any] = []
        self._began = 0.0
        self._counting = ExitStack()

    @property
    def seconds(self) -> list[float]:
        """Of each step that was timed."""
        return [between(*ends) for ends in pairwise(self._marks)]

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if index == 0:  # not timed: it allocates
            self.before = peak_memory()
            return
        self._began = self._began or time.perf_counter()
        self._marks.append(mark())
        late = time.perf_counter() - self._began > self.budget
        if index > self.steps or (late and index > LEAST):
            self.peak = peak_memory()
            # Fused attention has no formula on every device; as plain products it counts.
            self._counting.enter_context(sdpa_kernel(SDPBackend.MATH))
            self._counting.enter_context(self.counter)
            trainer.should_stop = True

    def on_train_batch_end(self, *_: Any) -> None:
        self._counting.close()


def mark() -> Any:
    """This moment, on the GPU's own clock where there is one."""
    if not torch.cuda.is_available():
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(start: Any, end: Any) -> float:
    """Seconds from one mark to another."""
    if isinstance(start, float):
        return end - start
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def steps_of(case: str, precision: str, steps: int, budget: float, overrides: list[str]) -> Row:
    """The row of one case, measured in this process."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    chosen, batch_for = CASES[case]
    settings = ["name=benchmark", f"trainer.precision={precision}"]
    cfg = composed("train", *chosen, *settings, *overrides)
    torch.manual_seed(cfg.seed)
    torch.set_float32_matmul_precision(cfg.matmul_precision)
    module = get_method(cfg.stage)(cfg).module
    batch, watch = batch_for(cfg, module), Watch(steps, budget)
    trainer = trainer_of(
        cfg, module, [EMA(cfg.ema), watch], max_steps=steps + 2, val_check_interval=None,
        limit_val_batches=0, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, Same(batch, steps + 2))
    dtype = torch.bfloat16 if precision.startswith("bf16") else torch.float32
    limit, product = products_per_second(dtype, trainer.strategy.root_device)
    return {
        "case": case, "precision": precision, "seconds": watch.seconds, "batch": len(batch),
        "clip_seconds": module.seconds(batch),
        "parameters": sum(p.numel() for p in module.averaged.parameters()),
        "flop": watch.counter.get_total_flops(), "limit": limit, "product": product,
        "mib": watch.peak, "mib_before": watch.before,
        "threads": torch.get_num_threads(), "device": trainer.strategy.root_device.type,
    }  # fmt: skip


def rate(row: Row, what: float) -> float:
    """``what`` a step, as ``what`` a second."""
    return what / median(row["seconds"])


COLUMNS = {
    "case": lambda row: row["case"],
    "precision": lambda row: row["precision"],
    "batch": lambda row: f"{row['batch']} x {row['clip_seconds']:.3g} s",
    "parameters": lambda row: f"{row['parameters'] / 1e6:.1f} M",
    "steps": lambda row: str(len(row["seconds"])),
    "s/step": lambda row: spread(row["seconds"]),
    "samples/s": lambda row: f"{rate(row, row['batch']):.3g}",
    "audio s/s": lambda row: f"{rate(row, row['batch'] * row['clip_seconds']):.3g}",
    "GFLOP/step": lambda row: f"{row['flop'] / 1e9:.1f}",
    "GFLOP/s": lambda row: f"{rate(row, row['flop'] / 1e9):.0f}",
    "of limit": lambda row: (
        f"{rate(row, row['flop'] / row['limit']):.0%} of {row['limit'] / 1e9:.0f}"
    ),
    "peak MiB (before)": lambda row: f"{row['mib']:.0f} ({row['mib_before']:.0f})",
}


def main() -> None:
    """Prints the table, or a JSON line a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=7, help="steps that are timed")
    parser.add_argument(
        "--seconds", type=float, default=8, help=f"a row stops after this, and {LEAST} steps"
    )
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--precision", default="32-true,bf16-mixed", help="one or several")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)  # in a process of its own
    given, overrides = parser.parse_known_args()
    if given.row:
        case, precision = given.row
        print(json.dumps(steps_of(case, precision, given.steps, given.seconds, overrides)))
        return
    cases = [case for case in CASES if given.only in case]
    precisions = given.precision.split(",")
    if not cases:
        parser.error(f"--only {given.only}: the cases are {', '.join(CASES)}")
    with tempfile.TemporaryDirectory() as name:

        def row(case: str, precision: str, steps: int) -> Row:
            options = ["--steps", str(steps), "--seconds", str(given.seconds)]
            return fresh(
                __file__, "--row", case, precision, *options, *overrides, folder=Path(name)
            )

        # Once without counting: it files the captions' embeddings, which no training step makes.
        row(cases[-1], precisions[0], 1)
        rows = [row(case, precision, given.steps) for case in cases for precision in precisions]
    first = rows[0]
    title = (
        f"python benchmarks/training.py {' '.join(sys.argv[1:])}\n{first['threads']} threads, "
        f"{first['device']}; s/step: median (range); limit: the fastest product of "
        f"{first['product'].partition(' in ')[0]} at the row's precision, in GFLOP/s"
    )
    show(title, rows, COLUMNS, given.json)


if __name__ == "__main__":
    main()
