"""The runs of a sweep as one table: a row for all that differ in nothing but their seed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, stdev

from glissando.files import write_whole
from glissando.study.outcome import Outcome
from glissando.study.picture import draw

REPEATS = ("seed", "ckpt")  # a run made or gone on with once more: still of the same row

NOTES = """\
Of each row's runs: mean and standard deviation (n - 1) of the last {monitor}; medians of a training
step's time and of the peak of memory (of all tensors on a GPU, else what the process has grown by).
GFLOP are of one clip's forward pass.
"""


@dataclass(frozen=True)
class Row:
    """The finished runs that agree in ``labels``, the values of what was swept."""

    labels: tuple[str, ...]
    runs: Sequence[Outcome]
    failures: int

    def known(self, number: Callable[[Outcome], float | None]) -> list[float]:
        """That number of all runs that have it."""
        return [value for value in map(number, self.runs) if value is not None]

    @property
    def losses(self) -> list[float]:
        return self.known(lambda run: run.loss)

    @property
    def spread(self) -> float | None:
        """Standard deviation of the losses; None of fewer than two."""
        return stdev(self.losses) if len(self.losses) > 1 else None

    def numbers(self) -> list[float | None]:
        """Parameters, operations, seconds a step, GiB, mean loss and its spread."""
        return [
            _of(max, self.known(lambda run: run.parameters)),
            _of(max, self.known(lambda run: run.flops)),
            _of(median, self.known(lambda run: run.step_seconds)),
            _of(median, self.known(lambda run: run.peak_gib)),
            _of(fmean, self.losses),
            self.spread,
        ]


def write_table(folder: Path, runs: Sequence[Outcome]) -> None:
    """``table.md`` and ``table.csv``, and ``table.png`` once a run has a loss. Raises OSError."""
    keys, rows = swept(runs), grouped(runs)
    monitor = next((run.monitor for run in runs if run.monitor), "loss")
    write_whole(folder / "table.md", markdown(runs, keys, rows, monitor).encode())
    write_whole(folder / "table.csv", comma_separated(keys, rows, monitor).encode())
    if any(row.losses for row in rows):
        points = {" ".join(row.labels) or "all": row.losses for row in rows}
        write_whole(folder / "table.png", draw(points, monitor))


def swept(runs: Sequence[Outcome]) -> list[str]:
    """The settings that are not the same in all runs, without the seed."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    return [
        key
        for key in keys
        if key not in REPEATS and len({run.settings.get(key) for run in runs}) > 1
    ]


def grouped(runs: Sequence[Outcome]) -> list[Row]:
    """The rows, in the order of their first runs; one whose runs have all failed is kept."""
    keys = swept(runs)
    groups: dict[tuple[str, ...], list[Outcome]] = {}
    for run in runs:
        groups.setdefault(tuple(run.settings.get(key, "") for key in keys), []).append(run)
    return [
        Row(labels, [run for run in group if run.fault is None], sum(map(_has_failed, group)))
        for labels, group in groups.items()
    ]


def markdown(runs: Sequence[Outcome], keys: list[str], rows: list[Row], monitor: str) -> str:
    """The table for people, what all runs have in common, and what became of the failed ones."""
    numbers = ["parameters (M)", "GFLOP", "step (ms)", "memory (GiB)", monitor, "runs"]
    lines = [_line([*keys, *numbers]), _line(["---"] * len(keys) + ["---:"] * len(numbers))]
    lines += [_line([*row.labels, *_cells(row)]) for row in rows]
    same = {
        f"{key}={value}"
        for run in runs
        for key, value in run.settings.items()
        if key not in (*keys, *REPEATS)
    }
    text = "\n".join(lines) + "\n\n" + NOTES.format(monitor=monitor)
    if same:
        text += f"\nEvery run: `{' '.join(sorted(same))}`\n"
    if faults := [run for run in runs if _has_failed(run)]:
        text += "\nFailed, and in no number above:\n\n"
        text += "".join(f"- run {run.run}, {_said(run, keys)}: {run.fault}\n" for run in faults)
    return text


def comma_separated(keys: list[str], rows: list[Row], monitor: str) -> str:
    """The table for programs: unrounded, empty where nothing is known."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    numbers = ["parameters", "flops", "step_seconds", "peak_gib", monitor, f"{monitor} deviation"]
    writer.writerow([*keys, *numbers, "runs", "failed"])
    for row in rows:
        writer.writerow([*row.labels, *row.numbers(), len(row.runs), row.failures])
    return text.getvalue()


def _said(run: Outcome, keys: list[str]) -> str:
    named = [key for key in [*keys, "seed"] if key in run.settings]
    return f"`{' '.join(f'{key}={run.settings[key]}' for key in named)}`"


def _cells(row: Row) -> list[str]:
    count, work, seconds, peak, loss, spread = row.numbers()
    runs = str(len(row.runs)) + (f" ({row.failures} failed)" if row.failures else "")
    return [
        _shown(count, ".2f", 1e-6),
        _shown(work, ".3g", 1e-9),
        _shown(seconds, ".0f", 1e3),
        _shown(peak, ".2f"),
        _shown(loss, ".4f") + ("" if spread is None else f" ± {spread:.4f}"),
        runs,
    ]


def _shown(number: float | None, form: str, unit: float = 1) -> str:
    return "-" if number is None else format(number * unit, form)


def _of(statistic: Callable[[list[float]], float], values: list[float]) -> float | None:
    return statistic(values) if values else None


def _has_failed(run: Outcome) -> bool:
    return run.fault is not None


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
