"""What a run is said to have come to, and the table of many, against numbers taken by hand."""

from __future__ import annotations

import csv
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from glissando.errors import UserError
from glissando.generation import load
from glissando.networks.summary import flops
from glissando.study.__main__ import main
from glissando.study.callback import Table
from glissando.study.matching import latent_shape
from glissando.study.outcome import Outcome, failed, finished, outcomes, write
from glissando.study.picture import draw
from glissando.study.table import grouped, swept, write_table
from tiny import DIT, Train, rows, stored

LOSSES = {("film", 0): 1.25, ("film", 1): 1.5, ("film", 2): 1.0, ("prefix", 0): 2.0}


def runs() -> list[Outcome]:
    """Three seeds of film; of prefix one that ended and one that failed."""
    found = [
        Outcome(str(number), settings(mechanism, seed), None, "val/loss", loss, 3_101_760,
                261_000_000, 0.1 * (seed + 1), 0.5 + seed)
        for number, ((mechanism, seed), loss) in enumerate(LOSSES.items())
    ]  # fmt: skip
    return [*found, failed(Path("4"), settings("prefix", 1), "the loss is nan | at step 20")]


def settings(mechanism: str, seed: int) -> dict[str, str]:
    return {"seed": str(seed), "conditioning": mechanism, "model": "dit_tiny"}


def test_rows_are_what_differs_in_more_than_the_seed() -> None:
    assert swept(runs()) == ["conditioning"]
    film, prefix = grouped(runs())
    assert (film.labels, len(film.runs), film.failures) == (("film",), 3, 0)
    assert (prefix.labels, len(prefix.runs), prefix.failures) == (("prefix",), 1, 1)
    spread = statistics.stdev([1.25, 1.5, 1.0])
    assert film.numbers() == [3_101_760, 261_000_000, pytest.approx(0.2), 1.5, 1.25, spread]
    assert prefix.numbers()[-2:] == [2.0, None]


def test_the_files_of_a_table(tmp_path: Path) -> None:
    write_table(tmp_path, runs())
    text = (tmp_path / "table.md").read_text()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    head, _, film, prefix = lines[:4]
    assert dict(zip(head, film, strict=True)) == {
        "conditioning": "film", "parameters (M)": "3.10", "GFLOP": "0.261", "step (ms)": "200",
        "memory (GiB)": "1.50", "val/loss": "1.2500 ± 0.2500", "runs": "3",
    }  # fmt: skip
    assert prefix[-2:] == ["2.0000", "1 (1 failed)"]
    assert "\nEvery run: `model=dit_tiny`\n" in text
    assert "- run 4, `conditioning=prefix seed=1`: the loss is nan | at step 20\n" in text
    with (tmp_path / "table.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert float(first["val/loss deviation"]) == statistics.stdev([1.25, 1.5, 1.0])
    assert (first["parameters"], first["flops"], first["runs"]) == ("3101760", "261000000", "3")
    assert (second["val/loss deviation"], second["failed"]) == ("", "1")
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_of_nothing_but_failures(tmp_path: Path) -> None:
    write_table(tmp_path, [failed(Path("0"), settings("film", 0), "no space left")])
    text = (tmp_path / "table.md").read_text()
    assert "| - | - | - | - | - | 0 (1 failed) |" in text
    assert "- run 0, `seed=0`: no space left\n" in text
    assert not (tmp_path / "table.png").exists()


def test_a_picture_grows_with_its_rows_and_shows_every_run() -> None:
    small = draw({"film": [1.0, 1.2]}, "val/loss")
    large = draw({f"row {n}": [1.0, 1.2] for n in range(14)}, "val/loss")
    heights = [int.from_bytes(png[20:24], "big") for png in (small, large)]
    assert heights[1] > 3 * heights[0]
    assert draw({"film": [1.0, 1.3]}, "val/loss") != small


def test_outcomes_are_read_in_the_order_of_the_runs(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        write(Outcome(str(number), {"seed": "0"}, loss=float(number)), tmp_path / str(number))
    (tmp_path / "3").mkdir()  # a run that has not ended
    assert [run.loss for run in outcomes(tmp_path)] == [1.0, 2.0, 10.0]


def test_several_sweeps_make_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in runs():
        seed = run.settings["seed"]
        again = {"ckpt": "last"} if seed == "1" else {}  # one of them was stopped in between
        write(replace(run, settings={**run.settings, **again}), tmp_path / f"seed{seed}" / run.run)
    monkeypatch.setattr(sys, "argv", ["study", str(tmp_path)])
    main()
    text = (tmp_path / "table.md").read_text()
    assert "1.2500 ± 0.2500 | 3 |" in text
    assert "- run seed1/4, `conditioning=prefix seed=1`: " in text
    for wrong in ([], [str(tmp_path / "seed1" / "none")], [str(tmp_path), str(tmp_path)]):
        monkeypatch.setattr(sys, "argv", ["study", *wrong])
        with pytest.raises(SystemExit, match=r"usage: python -m glissando\.study FOLDER"):
            main()


@pytest.fixture(scope="module")
def run(train: Train, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, as the first of a sweep."""
    folder = tmp_path_factory.mktemp("sweep") / "0"
    train(folder, *DIT, f"representation.autoencoder={vae}", "trainer.max_steps=3",
          "trainer.val_check_interval=2", "conditioning=prefix")  # fmt: skip
    return folder


def test_what_a_run_has_come_to(run: Path) -> None:
    outcome = finished(run, {"seed": "0"})
    logged = rows(run)
    losses = [float(row["val/loss"]) for row in logged if row["val/loss"]]
    speeds = [float(row["speed/steps_per_second"]) for row in logged if row["speed/peak_gib"]]
    assert len(losses) == 2
    assert outcome.monitor == "val/loss"
    assert outcome.loss == losses[-1]
    assert outcome.step_seconds == pytest.approx(1 / statistics.median(speeds))
    peak = max(float(row["speed/peak_gib"] or 0) for row in logged)
    assert outcome.peak_gib == peak
    assert 0 <= peak < 4
    weights = stored(run)["state_dict"]
    network = {n: w for n, w in weights.items() if n.startswith("trained.denoiser.network.")}
    assert outcome.parameters == sum(weight.numel() for weight in network.values())
    model = load(str(run), device="cpu")
    shape = latent_shape(model.representation, 1.5)
    assert outcome.flops == flops(model.denoiser.network, shape, model.conditioners.sizes)


def job(config: DictConfig, error: Exception | None = None) -> JobReturn:
    job = JobReturn(overrides=["seed=0", "conditioning=prefix"], cfg=config)
    job.status = JobStatus.COMPLETED if error is None else JobStatus.FAILED
    job.return_value = error
    return job


def hydra(run: Path, mode: RunMode = RunMode.MULTIRUN) -> DictConfig:
    folders = {"runtime": {"output_dir": str(run)}, "sweep": {"dir": str(run.parent)}}
    return OmegaConf.create({"hydra": {"mode": mode, **folders}})


def test_the_callback_writes_after_every_run_of_a_sweep(run: Path) -> None:
    Table().on_job_end(hydra(run, RunMode.RUN), job_return=job(hydra(run)))
    assert not list(run.parent.glob("table.*"))
    Table().on_job_end(hydra(run), job_return=job(hydra(run)))
    assert outcomes(run.parent) == [finished(run, {"seed": "0", "conditioning": "prefix"})]
    held = torch.ones(3)

    def fails() -> None:
        there = held
        raise UserError(f"of {len(there)} weights none fits")

    broken = run.parent / "1"
    with pytest.raises(UserError) as caught:
        fails()
    Table().on_job_end(hydra(broken), job_return=job(hydra(broken), caught.value))
    frames = caught.traceback[-1].frame
    assert "there" not in frames.f_locals  # nothing that was alive there is kept
    text = (run.parent / "table.md").read_text()
    assert "`: of 3 weights none fits\n" in text
    loss = finished(run, {}).loss
    assert f"{loss:.4f} | 1 (1 failed) |" in text
