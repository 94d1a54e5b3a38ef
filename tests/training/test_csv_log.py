from __future__ import annotations

import csv
from pathlib import Path

from glissando.training.csv_log import MetricsCSV


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def steps(folder: Path) -> list[int]:
    return [int(row["step"]) for row in read(folder)]


def filled(folder: Path, count: int) -> MetricsCSV:
    log = MetricsCSV(folder)
    for step in range(count):  # Lightning counts from 0
        log.log_metrics({"train/loss": step / 10, "epoch": 0}, step)
    return log


def test_a_row_is_on_disk_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    assert read(tmp_path) == [
        {"step": "1", "train/loss": "0.0"},
        {"step": "2", "train/loss": "0.1"},
        {"step": "3", "train/loss": "0.2"},
    ]


def test_training_and_validation_of_a_step_share_a_row(tmp_path: Path) -> None:
    log = filled(tmp_path, 2)
    log.log_metrics({"val/loss": 5.0}, 1)  # a new column
    log.log_metrics({"train/loss": 0.5}, 2)
    log.log_metrics({"val/loss": 4.0}, 2)  # one that is known
    log.log_metrics({"train/loss": 0.6}, 3)
    assert [tuple(row.values()) for row in read(tmp_path)] == [
        ("1", "0.0", ""),
        ("2", "0.1", "5.0"),
        ("3", "0.5", "4.0"),
        ("4", "0.6", ""),
    ]


def test_a_resumed_run_cuts_back_and_goes_on(tmp_path: Path) -> None:
    filled(tmp_path, 5).log_metrics({"val/loss": 1.0}, 4)
    log = MetricsCSV(tmp_path)
    log.cut(3)
    assert steps(tmp_path) == [1, 2, 3]
    log.log_metrics({"train/loss": 7.0, "lr": 1e-3}, 3)
    assert steps(tmp_path) == [1, 2, 3, 4]
    assert read(tmp_path)[-1] == {"step": "4", "train/loss": "7.0", "val/loss": "", "lr": "0.001"}


def test_a_fresh_run_begins_a_new_file(tmp_path: Path) -> None:
    filled(tmp_path, 5)
    log = MetricsCSV(tmp_path)
    log.cut(0)
    log.log_metrics({"other": 1.0}, 0)
    assert read(tmp_path) == [{"step": "1", "other": "1.0"}]


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    path = tmp_path / "metrics.csv"
    whole = path.read_bytes()
    for lost in range(1, len(b"3,0.2\n") + 1):  # wherever the crash tore it
        path.write_bytes(whole[:-lost])
        log = MetricsCSV(tmp_path)
        log.cut(10)
        assert steps(tmp_path) == [1, 2]
        log.log_metrics({"train/loss": 0.2}, 2)
        assert path.read_bytes() == whole


def test_an_empty_or_foreign_file_is_no_obstacle(tmp_path: Path) -> None:
    for text in ("", "step", "step,train/loss\r\n"):
        (tmp_path / "metrics.csv").write_text(text)
        log = MetricsCSV(tmp_path)
        log.cut(10)
        log.log_metrics({"train/loss": 1.0}, 0)
        assert steps(tmp_path) == [1]
