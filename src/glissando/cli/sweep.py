"""What a sweep came to: every run with its changes, its metric or its error, in one table.

Each run leaves ``result.json`` in its folder, wherever it ran. The table is printed, and written
as ``sweep.csv``, when the sweep ends, be it by Ctrl-C or because runs have failed: those do not end
it and are named.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

from glissando.cli.failure import explain
from glissando.files import write_whole

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from omegaconf import DictConfig

RESULT = "result.json"
_under_way: Path | None = None  # the folder of this process' sweep


class Sweep(Callback):
    """``hydra.callbacks``: writes each run's outcome, and remembers where the sweep is."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        global _under_way
        _under_way = Path(config.hydra.sweep.dir)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        from hydra.types import RunMode

        if config.hydra.mode != RunMode.MULTIRUN:
            return
        found = job_return._return_value  # `return_value` would raise it
        outcome = {
            "overrides": list(job_return.overrides or ()),
            "metric": found if isinstance(found, (int, float)) else None,
            "error": explain(found) if isinstance(found, BaseException) else None,
        }
        folder = Path(config.hydra.runtime.output_dir)
        write_whole(folder / RESULT, json.dumps(outcome, ensure_ascii=False).encode())


def tell() -> None:
    """Prints the sweep of this process, if it had one; its runs in the order of their metric."""
    global _under_way
    folder, _under_way = _under_way, None
    runs = outcomes(folder) if folder is not None else []
    if folder is None or not runs:
        return
    from rich.table import Table

    from glissando.progress import ERR

    table = Table("run", "changes", "metric", title=str(folder))
    for name, run in runs:
        said = f"failed: {run['error']}" if run["error"] else _number(run["metric"])
        table.add_row(name, run["changes"], said)
    ERR.print(table)
    with (folder / "sweep.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["run", "changes", "metric", "error"])
        for name, run in runs:
            rows.writerow([name, run["changes"], run["metric"], run["error"]])


def outcomes(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """The runs of a sweep that have ended, best first and failed ones last.

    ``changes`` are a run's overrides that not all have.
    """
    found = [
        (str(path.parent.relative_to(folder)), json.loads(path.read_bytes()))
        for path in folder.glob(f"**/{RESULT}")
    ]
    for _, run in found:
        common = set.intersection(*(set(other["overrides"]) for _, other in found))
        own = [each for each in run["overrides"] if len(found) == 1 or each not in common]
        run["changes"] = " ".join(own)

    def place(run: tuple[str, dict[str, Any]]) -> tuple[bool, float, str]:
        metric = run[1]["metric"]
        return run[1]["error"] is not None, float("inf") if metric is None else metric, run[0]

    return sorted(found, key=place)


def _number(metric: float | None) -> str:
    return "-" if metric is None else f"{metric:.5g}"
