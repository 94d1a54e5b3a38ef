from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from glissando.training import loggers
from tiny import VAE, Train, rows


@pytest.fixture(autouse=True)
def _no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


def test_without_a_key_wandb_logs_offline_inside_the_run_folder(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_questions(*_: Any) -> str:
        raise AssertionError("asked the user something")

    monkeypatch.setattr("builtins.input", no_questions)
    run = tmp_path / "run"
    train(run, *VAE, "trainer.max_steps=2", "logger=wandb", "callbacks.demo.every_n_steps=1")
    (logged,) = (run / "wandb").glob("offline-run-*")
    (file,) = logged.glob("*.wandb")
    patience = time.monotonic() + 20  # wandb's own process closes it a moment later
    while file.stat().st_size < 1000 and time.monotonic() < patience:
        time.sleep(0.1)
    assert file.stat().st_size > 1000
    media = {path.suffix for path in logged.glob("files/media/**/*") if path.is_file()}
    assert media >= {".wav", ".png"}
    assert len(rows(run)) == 2  # metrics.csv is written beside it
    assert not (tmp_path / "wandb").exists()
    # A sweep runs its jobs in one process: each has a run of its own.
    train(tmp_path / "two", *VAE, "trainer.max_steps=1", "logger=wandb")
    assert len(list((tmp_path / "two" / "wandb").glob("offline-run-*"))) == 1


def test_a_key_without_a_network_falls_back_to_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb as client

    begun = client.init
    modes: list[str] = []

    def unreachable(mode: str, **options: Any) -> Any:
        modes.append(mode)
        if mode == "online":
            raise client.errors.CommError("no route to host")
        return begun(mode=mode, **options)

    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setattr(client, "init", unreachable)
    (logger,) = loggers.wandb(tmp_path, "name", {"a": 1})
    logger.log_metrics({"loss": 1.0}, 0)
    client.finish()
    assert modes == ["online", "offline"]
    assert "logging offline" in caplog.text
    assert list((tmp_path / "wandb").glob("offline-run-*"))


@pytest.mark.slow
def test_a_real_failure_is_bounded_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb as client

    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    began = time.monotonic()
    assert loggers.wandb(tmp_path, "name", {}, timeout=5)
    client.finish()
    assert time.monotonic() - began < 60


def test_wandb_that_does_not_start_at_all_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb as client

    def broken(**_: Any) -> Any:
        raise OSError("disk on fire")

    monkeypatch.setattr(client, "init", broken)
    assert loggers.wandb(tmp_path, "name", {}) == []


@pytest.mark.parametrize(("environment", "netrc", "expected"), [
    ({}, None, False), ({"WANDB_API_KEY": "k"}, None, True),
    ({"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, None, False),
    ({}, "machine api.wandb.ai login user password k", True), ({}, "machine github.com", False),
])  # fmt: skip
def test_where_a_key_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str],
    netrc: str | None, expected: bool,
) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if netrc is not None:
        (tmp_path / "netrc").write_text(netrc)
    assert loggers._has_key() is expected


def test_tensorboard_has_numbers_sound_and_pictures(train: Train, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(
        tmp_path, *VAE, "trainer.max_steps=2", "logger=tensorboard",
        "callbacks.demo.every_n_steps=1",
    )  # fmt: skip
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "val/mel"} <= set(tags["scalars"])
    assert "reconstruction/0/audio" in tags["audio"]
    assert "reconstruction/0/picture" in tags["images"]


def test_csv_alone(train: Train, tmp_path: Path) -> None:
    train(tmp_path, *VAE, "trainer.max_steps=2", "logger=csv", "callbacks.demo.every_n_steps=1")
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2"]
    assert not (tmp_path / "wandb").exists()
    assert not (tmp_path / "tensorboard").exists()
    shown = {path.name for path in (tmp_path / "demos" / "step-0000002").iterdir()}
    assert {"000-original.wav", "000-decoded.wav", "000.png"} <= shown
