"""What became of a source's clips: how many there are, and which were refused and why."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from glissando.datasets.dataset_folder import REFUSED
from glissando.datasets.shards import Shard, whole_file
from glissando.errors import UserError


@dataclass(frozen=True)
class Report:
    """What was prepared: ``refused`` maps a reason to the keys of the clips refused for it."""

    root: Path
    clips: int
    seconds: float
    bytes: int
    refused: Mapping[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line: hours, clips, MB and how many were refused, the commonest reasons first."""
        line = (
            f"{self.root}: {self.seconds / 3600:.2f} h in {self.clips} clips, "
            f"{self.bytes / 1e6:.0f} MB"
        )
        if not self.refused:
            return line + ", none refused"
        count = Counter({reason: len(keys) for reason, keys in self.refused.items()})
        shown = [f"{reason} ({n}: {self.refused[reason][0]}{', …' if n > 1 else ''})"
                 for reason, n in count.most_common(4)]  # fmt: skip
        rest = [f"{len(count) - 4} more reasons"] if len(count) > 4 else []
        refused = f"{count.total()} refused: " + "; ".join(shown + rest)
        return f"{line}, {refused} (all in {self.root / REFUSED})"


def reported(root: Path, shards: Sequence[Shard], others: Sequence[tuple[str, str]] = ()) -> Report:
    """The report of ``shards``; writes ``refused.csv`` beside them, with ``others`` refused.

    Raises UserError where nothing is left.
    """
    rows = [(str(key), str(why)) for shard in shards for key, why in shard.index["refused"]]
    rows += list(others)
    refused: dict[str, list[str]] = {}
    for key, reason in rows:
        refused.setdefault(reason, []).append(key)
    samples = [sample for shard in shards for sample in shard.samples]
    if rows:
        text = io.StringIO()
        csv.writer(text).writerows([("clip", "reason"), *rows])
        with whole_file(root / REFUSED) as file:
            file.write(text.getvalue().encode())
    else:
        (root / REFUSED).unlink(missing_ok=True)
    if not samples:
        first = next(iter(refused.items()), ("the source has no clips", [""]))
        raise UserError(
            f"{root}: every one of {len(rows)} clips was refused, e.g. {first[1][0]}: {first[0]}; "
            "see data.root and data=…"
        )
    return Report(
        root,
        len(samples),
        sum(sample["frames"] / sample["rate"] for sample in samples),
        sum(size for size in {shard.tar: shard.index["bytes"] for shard in shards}.values()),
        refused,
    )
