"""``metrics.csv``: always written, appended to on resume."""

from __future__ import annotations

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only


class MetricsCSV(Logger):
    """One row a step, one column a metric (``step``, ``train/loss``, ``val/loss`` ...).

    Lightning's CSVLogger deletes an earlier file; this one goes on with it, after cutting back
    rows that lie beyond the resumed step, so a killed run's curve has neither gap nor fold. Rows
    are appended and flushed as they come; a new column rewrites the file once.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self.columns: list[str] = ["step"]
        self._pending: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The configuration lies beside the file as ``config.yaml``."""

    def cut(self, step: int) -> None:
        """Drops the rows beyond ``step`` of an earlier run in this folder."""
        rows = self._rows()
        self.columns = list(rows[0]) if rows else ["step"]
        kept = [row for row in rows if int(row["step"]) <= step]
        if kept:
            self._rewrite(kept)
        else:
            self.path.unlink(missing_ok=True)
            self.columns = ["step"]

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": step if step is not None else 0}
        row |= {name: value for name, value in metrics.items() if name != "epoch"}
        if self._pending and self._pending["step"] != row["step"]:
            self.save()
        self._pending |= row

    @rank_zero_only
    def save(self) -> None:
        """Writes the row in hand."""
        row, self._pending = self._pending, {}
        if not row:
            return
        new = [name for name in row if name not in self.columns]
        if new or not self.path.exists():
            rows = self._rows()
            self.columns += new
            self._rewrite([*rows, row])
            return
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            # A line torn by a crash has no step or a cut number: it is not taken for a row.
            return [row for row in csv.DictReader(file) if (row["step"] or "").isdigit()]

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".csv.part")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(self.path)
