"""Sweeps: one failed run ends nothing and is named; the metric reaches whoever searches by it."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from tiny import RATE, SHORT, VAE, Command


@pytest.fixture
def sweep(songs: Path, tmp_path: Path) -> list[str]:
    return [
        "-m", *SHORT, *VAE, "data=folder", f"data.root={songs}", f"data.sample_rate={RATE}",
        f"prepare.shards={tmp_path / 'shards'}", "trainer.max_steps=2", "schedule.warmup=0",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    ]  # fmt: skip


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_failed_run_ends_nothing_and_is_named(
    command: Command, sweep: list[str], tmp_path: Path
) -> None:
    said = command("train", *sweep, "optimizer.lr=1e-4,-1,1e-3")
    assert said.status == 1
    assert "failed: optimizer" in re.sub(r"\s+", " ", said.err)
    table = rows(tmp_path / "sweep")
    assert [bool(row["error"]) for row in table] == [False, False, True]
    assert float(table[0]["metric"]) <= float(table[1]["metric"])
    assert table[2]["changes"] == "optimizer.lr=-1"
    for number in (0, 2):
        assert (tmp_path / "sweep" / str(number) / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", None])
def test_a_search_by_optuna(
    command: Command, sweep: list[str], tmp_path: Path, launcher: str | None
) -> None:
    flags = [f"launcher={launcher}", "hydra.launcher.n_jobs=2"] if launcher else []
    said = command(
        "train", *sweep, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=4",
        f"hydra.sweeper.n_jobs={2 if launcher else 1}", "hydra.sweeper.sampler.seed=0", *flags,
        "optimizer.lr=choice(1e-4,1e-3,-1)",
    )  # fmt: skip
    assert said.status == 0, said.err
    table = rows(tmp_path / "sweep")
    assert len(table) == 4
    best = (tmp_path / "sweep" / "optimization_results.yaml").read_text()
    assert f"optimizer.lr: {table[0]['changes'].partition('=')[2]}" in best
    assert any(row["error"] for row in table), "the seed should have drawn a bad rate"
