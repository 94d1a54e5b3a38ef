"""A survey summed up: what is wrong with which clips, as a table, a picture and JSON."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from glissando.datasets.shards import whole_file
from glissando.datasets.survey import Heard
from glissando.errors import UserError

#: Names of clips that the table shows of each finding.
SHOWN = 3


@dataclass(frozen=True)
class Limits:
    """Beyond what something is a finding.

    A clip is *silent* if ``silent`` of it is, *clipped* if more than ``clipped`` of its samples
    are, *short* below ``shortest`` seconds; a caption is *long* beyond ``caption_words``.
    """

    silent: float = 0.95
    clipped: float = 1e-3
    shortest: float = 0.5
    caption_words: int = 60

    def __post_init__(self) -> None:
        for name in ("silent", "clipped"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"limits.{name} must be a share from 0 to 1")


class Findings:
    """What was found in ``heard``: ``of`` maps a finding to the names of its clips."""

    def __init__(self, heard: Sequence[Heard], limits: Limits) -> None:
        self.good = [clip for clip in heard if clip.error is None]
        self.bad = [clip for clip in heard if clip.error is not None]
        copies = Counter(clip.mark for clip in self.good)
        first = {clip.mark: clip.name for clip in reversed(self.good)}
        tests = {
            "silent": lambda clip: clip.silent >= limits.silent,
            "clipped": lambda clip: clip.clipped > limits.clipped,
            "short": lambda clip: clip.seconds < limits.shortest,
            "duplicate": lambda clip: copies[clip.mark] > 1 and first[clip.mark] != clip.name,
            "no caption": lambda clip: not clip.caption,
            "long caption": lambda clip: _words(clip) > limits.caption_words,
        }
        self.of = {"unreadable": [f"{clip.name} ({clip.error})" for clip in self.bad]}
        for finding, test in tests.items():
            self.of[finding] = [clip.name for clip in self.good if test(clip)]
        self.heard = list(heard)

    @property
    def seconds(self) -> float:
        return sum(clip.seconds for clip in self.good)

    def table(self, root: str) -> Table:
        """Counts and hours, then each finding with its first clips."""
        table = Table(title=root, title_justify="left")
        table.add_column("")
        table.add_column("clips", justify="right")
        table.add_column("hours", justify="right")
        table.add_column("such as", overflow="fold")
        table.add_row(
            "readable", str(len(self.good)), f"{self.seconds / 3600:.2f}", self._lengths()
        )
        for title, key in (("{} Hz", "rate"), ("{} channels", "channels")):
            kinds = Counter(getattr(clip, key) for clip in self.good)
            for kind, count in kinds.most_common(4):
                hours = sum(c.seconds for c in self.good if getattr(c, key) == kind) / 3600
                table.add_row(title.format(kind), str(count), f"{hours:.2f}", "")
        table.add_section()
        lasts = {clip.name: clip.seconds / 3600 for clip in self.good}
        for finding, names in self.of.items():
            more = f" … {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            lost = f"{sum(lasts.get(name, 0) for name in names):.2f}" if names else ""
            table.add_row(finding, str(len(names)), lost, "\n".join(names[:SHOWN]) + more)
        return table

    def _lengths(self) -> str:
        lengths = sorted(clip.seconds for clip in self.good)
        if not lengths:
            return ""
        middle = lengths[len(lengths) // 2]
        return f"{lengths[0]:.1f} to {lengths[-1]:.1f} s, median {middle:.1f} s"

    def plain(self, root: str) -> dict[str, Any]:
        """All of it as JSON values; silence is null where it would be -infinity dB."""
        clips = [
            {k: v if not isinstance(v, float) or math.isfinite(v) else None for k, v in row.items()}
            for row in map(asdict, self.heard)
        ]
        return {
            "root": root, "clips": len(self.good), "seconds": round(self.seconds, 3),
            "findings": self.of, "heard": clips,
        }  # fmt: skip

    def write(self, folder: Path, root: str) -> None:
        """``check.json`` and ``check.png`` in ``folder``."""
        with whole_file(folder / "check.json") as file:
            file.write(json.dumps(self.plain(root), ensure_ascii=False, indent=1).encode())
        if self.good:
            with whole_file(folder / "check.png") as file:
                self._picture(root).savefig(file, format="png", dpi=110)

    def _picture(self, root: str) -> Any:
        from matplotlib.figure import Figure

        figure = Figure((10, 5.5), layout="constrained")
        figure.suptitle(f"{root}: {len(self.good)} clips, {self.seconds / 3600:.2f} h")
        panels: list[tuple[str, list[float]]] = [
            ("length (s)", [clip.seconds for clip in self.good]),
            ("level (dB of full scale, RMS)", [max(clip.level, -100) for clip in self.good]),
            ("peak (dB of full scale)", [max(clip.peak, -100) for clip in self.good]),
            ("silent (share of a clip)", [clip.silent for clip in self.good]),
            ("sample rate (kHz)", [clip.rate / 1000 for clip in self.good]),
            ("caption (words, 0: none)", [_words(clip) for clip in self.good]),
        ]
        for axes, (title, values) in zip(figure.subplots(2, 3).flat, panels, strict=True):
            axes.hist(values, bins=30, color="#3b6ea5")
            axes.set_xlabel(title)
            axes.set_ylabel("clips")
        return figure


def _words(clip: Heard) -> int:
    return len((clip.caption or "").split())
