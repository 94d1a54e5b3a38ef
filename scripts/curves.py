"""Draws columns of metrics.csv files: the pictures of docs/recipe.md.

    python scripts/curves.py docs/recipe-vae.png val/mel val/snr -- outputs/vae outputs/other

One panel a column, one line a run folder.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def column(path: Path, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one column, where it is filled."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get(name)]
    return [int(row["step"]) for row in rows], [float(row[name]) for row in rows]


def main() -> None:
    """Reads the command line as the module's docstring shows it."""
    arguments = sys.argv[1:]
    if "--" not in arguments or len(arguments) < 4:
        sys.exit(__doc__)
    cut = arguments.index("--")
    target, columns, runs = arguments[0], arguments[1:cut], arguments[cut + 1 :]
    picture = Figure(figsize=(5 * len(columns), 3.2), layout="constrained")
    FigureCanvasAgg(picture)
    panels = picture.subplots(1, len(columns), squeeze=False)[0]
    for panel, name in zip(panels, columns, strict=True):
        for run in runs:
            steps, values = column(Path(run) / "metrics.csv", name)
            mark = "." if len(steps) < 40 else None
            panel.plot(steps, values, marker=mark, linewidth=1, label=Path(run).name)
        panel.set_xlabel("step")
        panel.set_title(name)
        panel.grid(alpha=0.3)
    if len(runs) > 1:
        panels[0].legend()
    picture.savefig(target, dpi=110)
    print(target)


if __name__ == "__main__":
    main()
