"""`python train.py -m experiment=conditioning_study`, small, in a process of its own."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev

import pytest

from tiny import RATE, SHORT, rows

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_sweep_leaves_its_table_though_runs_fail(tmp_path: Path, songs: Path, vae: Path) -> None:
    def study(*overrides: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable, str(ROOT / "train.py"), "-m", "experiment=conditioning_study", *SHORT,
            "data=folder", f"data.root={songs}", f"data.sample_rate={RATE}", "loader.seconds=0.5",
            f"representation.autoencoder={vae}", "text_encoder=hash", "model=dit_tiny",
            "model.depth=1", "loader.batch_size=4", "trainer.max_steps=3", "seed=0,1",
            "match.by=parameters", "conditioning=film,prefix", "hydra.sweep.dir=sweep",
            *overrides,
        ]  # fmt: skip
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    # Five heads do not divide the width: every run with them fails, the first ones at that.
    said = study("model.heads=5,2")
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1].startswith("error: model.width=64 is not divisible by")
    assert "Traceback" not in said.stderr
    sweep = tmp_path / "sweep"
    with (sweep / "table.csv").open(newline="") as file:
        table = {(row["model.heads"], row["conditioning"]): row for row in csv.DictReader(file)}
    assert {key: (row["runs"], row["failed"]) for key, row in table.items()} == {
        ("2", "film"): ("2", "0"), ("2", "prefix"): ("2", "0"),
        ("5", "film"): ("0", "2"), ("5", "prefix"): ("0", "2"),
    }  # fmt: skip
    outcomes = [json.loads(path.read_text()) for path in sweep.glob("*/outcome.json")]
    assert len(outcomes) == 8
    for mechanism in ("film", "prefix"):
        losses = [
            float(rows(sweep / outcome["run"])[-1]["val/loss"])
            for outcome in outcomes
            if outcome["settings"]["conditioning"] == mechanism and outcome["fault"] is None
        ]
        row = table["2", mechanism]
        assert float(row["val/loss"]) == pytest.approx(fmean(losses))
        assert float(row["val/loss deviation"]) == pytest.approx(stdev(losses))
    sizes = [float(table["2", mechanism]["parameters"]) for mechanism in ("film", "prefix")]
    assert abs(sizes[0] / sizes[1] - 1) < 0.03  # eight hidden features are 1.5% of so small a one
    text = (sweep / "table.md").read_text()
    assert text.count("`: model.width=64 is not divisible by model.heads=5") == 4
    assert (sweep / "table.png").is_file()

    # What had ended is not trained again, and what the table says of it stays.
    before = {path: path.read_bytes() for path in sweep.glob("*/metrics.csv")}
    again = study("model.heads=5,2", "ckpt=last")
    assert again.returncode == 1
    assert {path: path.read_bytes() for path in sweep.glob("*/metrics.csv")} == before
    assert (sweep / "table.csv").read_text().count("\n") == 5
    with (sweep / "table.csv").open(newline="") as file:
        assert {row["val/loss"] for row in csv.DictReader(file)} == {
            row["val/loss"] for row in table.values()
        }
