"""What a second process brings: one against two, as DDP and as FSDP.

    python benchmarks/scaling.py [--turns 3] [--steps 6] [overrides of train.py]

A DiT trains on one batch of noise of the real shape, the same in each process, as in training.py,
with half of the cores in each. In every turn come: one process alone; two that know nothing of each
other, side by side; two as DDP; two as FSDP. Two cores share a cache and the way to memory, so two
processes cannot give twice of what one gives alone: what two give side by side is what remains to
be reached, and what is missing from it is what it costs to work together. Each row is a process of
its own, and each ratio of one turn.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import torch
from hydra.utils import get_method
from measure import Row, composed, show, spread

from glissando.training.ema import EMA
from glissando.training.trainer import trainer_of
from training import Same, between, latents, mark

WARM = 2  # steps that are not timed: they allocate
TOGETHER = ["trainer.devices=2"]
# What runs: its overrides, and how many independent programs.
CASES = {
    "one": ([], 1),
    "two side by side": ([], 2),
    "ddp": (["trainer=ddp", *TOGETHER], 1),
    "fsdp": (["trainer=fsdp", *TOGETHER], 1),
}


class Clock(L.Callback):
    """Times the steps after ``WARM``, which begin when all ``programs`` have come so far."""

    def __init__(self, place: Path, programs: int) -> None:
        self.place, self.programs = place, programs
        self._marks: list[Any] = []

    @property
    def seconds(self) -> list[float]:
        """Of each step."""
        return [between(*ends) for ends in pairwise(self._marks)]

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if index == WARM and self.programs > 1:
            (self.place / f"ready-{os.getpid()}").touch()
            while len(list(self.place.glob("ready-*"))) < self.programs:
                time.sleep(0.01)
        if index >= WARM:
            self._marks.append(mark())


def rate_of(case: str, place: Path, steps: int, overrides: list[str]) -> Row | None:
    """Samples a second of this program's processes; None in all but its first process."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    own, programs = CASES[case]
    cfg = composed("train", "name=benchmark", "model=dit", *own, *overrides)
    torch.manual_seed(cfg.seed)
    module = get_method(cfg.stage)(cfg).module
    batch, clock = latents(cfg, module), Clock(place, programs)
    trainer = trainer_of(
        cfg, module, [EMA(cfg.ema), clock], max_steps=WARM + steps + 1, val_check_interval=None,
        limit_val_batches=0, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, Same(batch, WARM + steps + 1))
    if not trainer.is_global_zero:
        return None
    return {
        "rate": trainer.world_size * len(batch) / median(clock.seconds), "batch": len(batch),
        "parameters": sum(p.numel() for p in module.averaged.parameters()),
        "precision": str(trainer.precision), "device": trainer.strategy.root_device.type,
    }  # fmt: skip


def measured(case: str, folder: Path, steps: int, overrides: list[str]) -> Row:
    """What the programs of a case report, run in ``folder``, their rates added."""
    threads = str(max(1, (os.cpu_count() or 2) // 2))
    programs = CASES[case][1]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        command = [sys.executable, str(Path(__file__).resolve()), "--row", case, place]
        command += ["--steps", str(steps), *overrides]
        started = [
            subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env={
                **os.environ, "OMP_NUM_THREADS": threads,
                # Programs that know nothing of each other would all take the first GPU.
                **({"CUDA_VISIBLE_DEVICES": str(number)} if programs > 1 else {}),
            })
            for number in range(programs)
        ]  # fmt: skip
        said = [program.communicate()[0] for program in started]
    if any(program.returncode for program in started):
        sys.exit(1)  # they have said why
    rows = [json.loads(lines.splitlines()[-1]) for lines in said]
    return {**rows[0], "rate": sum(row["rate"] for row in rows), "threads": threads}


def share(row: Row, of: str) -> str:
    return spread([100 * each for each in row[of]], ".0f") + " %"


COLUMNS = {
    "what": lambda row: row["case"],
    "samples/s": lambda row: spread(row["rates"]),
    "of twice one": lambda row: share(row, "ideal"),
    "of two side by side": lambda row: share(row, "ceiling"),
}


def main() -> None:
    """Prints the table, or a JSON line a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=3, help="times that all rows are measured")
    parser.add_argument("--steps", type=int, default=6, help="steps that are timed, of each row")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)  # in a process of its own
    given, overrides = parser.parse_known_args()
    if given.row:
        row = rate_of(given.row[0], Path(given.row[1]), given.steps, overrides)
        if row is not None:
            print(json.dumps(row))
        return
    with tempfile.TemporaryDirectory() as name:  # the captions' embeddings are filed there

        def turn() -> dict[str, Row]:
            return {case: measured(case, Path(name), given.steps, overrides) for case in CASES}

        turns = [turn() for _ in range(given.turns)]
    first = turns[0]["one"]
    rows: list[Row] = [
        {
            **first, "case": case,
            "rates": [turn[case]["rate"] for turn in turns],
            "ideal": [turn[case]["rate"] / turn["one"]["rate"] / 2 for turn in turns],
            "ceiling": [turn[case]["rate"] / turn["two side by side"]["rate"] for turn in turns],
        }
        for case in CASES
    ]  # fmt: skip
    title = (
        f"python benchmarks/scaling.py {' '.join(sys.argv[1:])}\n{first['device']}, "
        f"{first['threads']} thread(s) a process; {first['parameters'] / 1e6:.1f} M parameters, "
        f"{first['precision']}, {first['batch']} clips a process and step; median (range) of turns"
    )
    show(title, rows, COLUMNS, given.json)


if __name__ == "__main__":
    main()
