"""A sweep at one look: the loss of every run, and the mean of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from statistics import fmean

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw(points: Mapping[str, Sequence[float]], monitor: str) -> bytes:
    """A PNG with one line a label: a dot for each run and a stroke at their mean.

    Without pyplot, hence without global state and display.
    """
    picture = Figure(figsize=(7, 1 + 0.28 * len(points)), dpi=110, layout="constrained")
    FigureCanvasAgg(picture)
    panel = picture.subplots()
    for place, losses in enumerate(points.values()):
        panel.plot(losses, [place] * len(losses), "o", color="C0", markersize=4, alpha=0.6)
        if losses:
            panel.plot(fmean(losses), place, "|", color="C3", markersize=14, markeredgewidth=2)
    panel.set_yticks(range(len(points)), list(points))
    panel.invert_yaxis()
    panel.set_xlabel(f"{monitor} (dots: runs; strokes: means)")
    panel.grid(axis="x", alpha=0.3)
    data = BytesIO()
    picture.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()
