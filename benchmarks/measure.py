"""What the programs here share: times with their range, memory, fresh processes, tables."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def seconds_of(work: Callable[[], object], runs: int, warm: int = 1) -> list[float]:
    """Wall seconds of each of ``runs`` calls after ``warm`` that do not count.

    A GPU is waited for before and after each call.
    """
    for _ in range(warm):
        work()
    took = []
    for _ in range(runs):
        _wait()
        began = time.perf_counter()
        work()
        _wait()
        took.append(time.perf_counter() - began)
    return took


def _wait() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def spread(values: Sequence[float], form: str = ".3g") -> str:
    """The median and, in parentheses, the smallest and largest."""
    middle, least, most = (
        f"{value:{form}}" for value in (statistics.median(values), min(values), max(values))
    )
    return f"{middle} ({least}-{most})"


def peak_memory() -> float:
    """The most memory (MiB) that this process has had: on the GPU if it uses one, else resident."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux a new process inherits that of the one which started it.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource  # macOS, where it is in bytes

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def products_per_second(dtype: Any, device: Any = "cpu") -> tuple[float, str]:
    """FLOP/s of the fastest of ten square matrix products, and what was multiplied, in words.

    The limit that a step's FLOP/s are held against: large, aligned, alone and from memory that
    nothing else reads, which no step of a network is.
    """
    import torch

    size = 8192 if torch.device(device).type == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    fastest = min(seconds_of(lambda: a @ b, 10, warm=2))
    name = str(dtype).removeprefix("torch.")
    return 2 * size**3 / fastest, f"{size} x {size} x {size} in {name}"


def fresh(program: str, *arguments: str, folder: Path | None = None) -> Row:
    """The last line, JSON, that ``program`` prints when run in a process of its own.

    Peak memory then belongs to one measurement and caches start equally cold for all.
    """
    command = [sys.executable, str(Path(program).resolve()), *arguments]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)  # it has said why
    return json.loads(done.stdout.splitlines()[-1])


def composed(root: str, *overrides: str) -> Any:
    """The config ``conf/<root>.yaml`` as ``overrides`` change it."""
    from hydra import compose, initialize_config_dir

    from glissando.cli.conf import config_dir

    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose(root, list(overrides))


def songs(folder: Path, count: int, seconds: float = 6.0, rate: int = 22050) -> list[str]:
    """Writes ``count`` captioned tones, mono; returns the overrides that make them the data."""
    import numpy as np
    import soundfile

    folder.mkdir()
    time_axis = np.arange(round(seconds * rate)) / rate
    for number in range(count):
        tone = sum(np.sin(2 * np.pi * k * 110 * 2 ** (number / 12) * time_axis) / k for k in (1, 2))
        hiss = np.random.default_rng(number).normal(0, 0.01, len(time_axis))
        wave = 0.3 * np.exp(-3 * (time_axis % 0.5)) * tone + hiss
        soundfile.write(folder / f"{number:03d}.wav", wave, rate)
        (folder / f"{number:03d}.txt").write_text(f"a decaying tone, number {number}")
    shards = folder.with_name(f"{folder.name}-shards")
    return ["data=folder", f"data.root={folder}", f"prepare.shards={shards}", "prepare.workers=1"]


def show(
    title: str, rows: Sequence[Row], columns: Mapping[str, Callable[[Row], str]], as_json: bool
) -> None:
    """Prints ``rows`` as they are, one JSON line each, or as a Markdown table of ``columns``."""
    if as_json:
        for row in rows:
            print(json.dumps(row))
        return
    from rich.box import MARKDOWN
    from rich.console import Console
    from rich.table import Table

    table = Table(box=MARKDOWN)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(cell(row) for cell in columns.values()))
    print(title)
    Console(width=250).print(table)
