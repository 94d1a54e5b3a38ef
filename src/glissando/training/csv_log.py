"""``metrics.csv``: always written, appended to on resume."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from glissando.files import write_whole

Row = dict[str, Any]


class MetricsCSV(Logger):
    """One row a step, one column a metric (``step``, ``train/loss``, ``val/loss`` ...).

    Lightning's CSVLogger deletes an earlier file; this one goes on with it, after ``cut`` has taken
    back the rows that lie beyond the resumed step, so a killed run's curve has neither gap nor
    fold. A row is on the disk as soon as it is logged. ``step`` is the number of steps done.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self.columns: list[str] = ["step"]
        self._last: Row = {}
        self._before_last = 0  # bytes of the file in front of the last row

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """The configuration lies beside the file as ``config.yaml``."""

    @rank_zero_only
    def cut(self, step: int) -> None:
        """Drops the rows beyond ``step`` of an earlier run in this folder; 0 drops them all."""
        rows = self._rows()
        kept = [row for row in rows if int(row["step"]) <= step]
        self.columns = list(rows[0]) if kept else ["step"]
        if kept:
            self._rewrite(kept)
        else:
            self.path.unlink(missing_ok=True)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        # Lightning counts from 0 and logs training and validation of one step apart: one row here.
        row: Row = {"step": 1 + (step or 0)}
        row |= {name: value for name, value in metrics.items() if name != "epoch"}
        again = bool(self._last) and self._last["step"] == row["step"]
        if again:
            row = self._last | row
        new = [name for name in row if name not in self.columns]
        if new or not self.path.exists():
            rows = self._rows()
            self.columns += new
            self._rewrite([*(rows[:-1] if again else rows), row])
        else:
            with self.path.open("r+b") as file:
                place = self._before_last if again else file.seek(0, io.SEEK_END)
                file.seek(place)
                file.write(self._encoded([row]))
                file.truncate()
            self._before_last = place
        self._last = row

    def _rows(self) -> list[Row]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            lines = file.readlines()
        if lines and not lines[-1].endswith("\n"):
            lines.pop()  # torn by a crash: its last number may lack digits
        return [row for row in csv.DictReader(lines) if (row["step"] or "").isdigit()]

    def _rewrite(self, rows: list[Row]) -> None:
        head = io.StringIO(newline="")
        csv.writer(head, lineterminator="\n").writerow(self.columns)
        before = head.getvalue().encode() + self._encoded(rows[:-1])
        write_whole(self.path, before + self._encoded(rows[-1:]))
        self._before_last = len(before)

    def _encoded(self, rows: list[Row]) -> bytes:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self.columns, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()
