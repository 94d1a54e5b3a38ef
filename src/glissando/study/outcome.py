"""What one run of a sweep came to, read from what it left in its folder."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml

from glissando.build import bare_network, rebuilt
from glissando.checkpoints.files import read_training
from glissando.files import write_whole
from glissando.networks.summary import flops, parameters
from glissando.study.matching import latent_shape

FILE = "outcome.json"


@dataclass(frozen=True)
class Outcome:
    """One run; a number is None where it is not known.

    ``run`` is the name of its folder, ``settings`` are the overrides that made it, ``fault`` is
    the line of what stopped it. ``loss`` is the last value of the metric ``monitor``; ``flops`` are
    of one clip's forward pass; ``step_seconds`` is the median over training; ``peak_gib`` is what
    ``training.memory.Peak`` saw.
    """

    run: str
    settings: Mapping[str, str]
    fault: str | None = None
    monitor: str = ""
    loss: float | None = None
    parameters: int | None = None
    flops: int | None = None
    step_seconds: float | None = None
    peak_gib: float | None = None


def failed(folder: Path, settings: Mapping[str, str], fault: str) -> Outcome:
    """The outcome of a run that an error ended."""
    return Outcome(folder.name, settings, fault)


def finished(folder: Path, settings: Mapping[str, str]) -> Outcome:
    """The outcome of a run that came to its end. Raises OSError or UserError where files lack."""
    monitor = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["monitor"]
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    def column(name: str) -> list[float]:
        return [float(row[name]) for row in rows if row.get(name)]

    losses, speeds = column(monitor), column("speed/steps_per_second")
    count, work = size(folder / "checkpoints" / "last.ckpt")
    return Outcome(
        run=folder.name,
        settings=settings,
        monitor=monitor,
        loss=losses[-1] if losses else None,
        parameters=count,
        flops=work,
        step_seconds=1 / median(speeds) if speeds else None,
        peak_gib=max(column("speed/peak_gib"), default=None),
    )


def size(checkpoint: Path) -> tuple[int | None, int | None]:
    """Parameters and operations of a checkpoint's denoiser; it is built, but not its weights."""
    said: dict[str, Any] = read_training(checkpoint)["glissando"]
    if said["kind"] != "diffusion":
        return None, None
    config = said["config"]
    with torch.device("meta"):
        representation = rebuilt(said["representation"])
        network, sizes = bare_network(config, representation)
    seconds = min(said["data"]["window"], config["loader"]["seconds"] or math.inf)
    return parameters(network), flops(network, latent_shape(representation, seconds), sizes)


def write(outcome: Outcome, folder: Path) -> None:
    """Into the run's folder, for ``outcomes``."""
    write_whole(folder / FILE, json.dumps(asdict(outcome), indent=2).encode() + b"\n")


def outcomes(sweep: Path) -> list[Outcome]:
    """Those of all runs below a folder that have ended, in order, named by their place in it."""
    found = {str(path.parent.relative_to(sweep)): path for path in sweep.glob(f"**/{FILE}")}
    return [
        Outcome(**{**json.loads(found[run].read_text(encoding="utf-8")), "run": run})
        for run in sorted(found, key=lambda run: (len(run), run))
    ]
