from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from glissando.checkpoints.files import locate, read_training
from glissando.errors import UserError
from glissando.training import loggers
from glissando.training.csv_log import MetricsCSV
from tiny import VAE, Train, rows
from wandb_offline import Logged, read


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
    logged = offline(run)
    assert logged.config["model"]["hop"] == 64
    assert logged.config["git"] == read_training(run / "checkpoints/last.ckpt")["glissando"]["git"]
    for name in ("train/loss", "val/loss", "val/mel"):  # metrics.csv is written beside it
        numbers = [row[name] for row in logged.rows if name in row]
        assert numbers == pytest.approx([float(row[name]) for row in rows(run) if row[name]])
    (folder,) = (run / "wandb").glob("offline-run-*")
    for kind, ending in (("audio", ".wav"), ("picture", ".png")):
        name = f"reconstruction/0/{kind}.path"
        (shown,) = [folder / "files" / row[name] for row in logged.rows if name in row]
        assert shown.suffix == ending
        assert shown.stat().st_size > 100
    assert logged.artifacts == []  # unless they are asked for
    assert not (tmp_path / "wandb").exists()
    # A sweep runs its jobs in one process: each has a run of its own.
    train(tmp_path / "two", *VAE, "trainer.max_steps=1", "logger=wandb")
    assert len(list((tmp_path / "two" / "wandb").glob("offline-run-*"))) == 1


def offline(run: Path) -> Logged:
    """What a run logged, as soon as W&B's own process has written its end."""
    patience = time.monotonic() + 20
    while not (logged := read(run)).ended and time.monotonic() < patience:
        time.sleep(0.1)
    assert logged.ended
    return logged


def test_checkpoints_are_artifacts_that_take_no_room(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    settings = [*VAE, "trainer.val_check_interval=1", "callbacks.checkpoint.every_n_train_steps=1"]
    train(run, *settings, "trainer.max_steps=3", "logger=wandb", "logger.log_model=true")
    assert "Weights & Biases does not" not in caplog.text
    best, last = offline(run).artifacts
    assert (set(best.aliases), set(last.aliases)) == ({"latest", "best"}, {"latest"})
    written = {path.name: path.stat().st_ino for path in (run / "checkpoints").iterdir()}
    (best_name,) = written.keys() - {"last.ckpt", "previous.ckpt"}
    for artifact, name in ((best, best_name), (last, "last.ckpt")):
        assert artifact.type == "model"
        assert f'"original_filename":"{name}"' in artifact.metadata.replace(" ", "")
        (content,) = artifact.manifest.contents
        kept = Path(content.local_path)
        assert content.path == "model.ckpt"
        assert kept.stat().st_ino == written[name]  # the same bytes, and not twice
        assert content.size == kept.stat().st_size
        assert content.digest == base64.b64encode(hashlib.md5(kept.read_bytes()).digest()).decode()
    assert not list(tmp_path.glob(".local/**/staging/*"))  # W&B's own copies, in the home
    # They are what they were, whatever the run does next.
    kept = Path(last.manifest.contents[0].local_path)
    before = kept.read_bytes()
    train(run, *settings, "trainer.max_steps=4", "ckpt=last")
    assert read_training(run / "checkpoints/last.ckpt")["global_step"] == 4
    assert kept.read_bytes() == before
    downloaded = tmp_path / "downloaded"
    downloaded.mkdir()
    (downloaded / "model.ckpt").write_bytes(before)
    assert read_training(locate(downloaded))["global_step"] == 3


@pytest.mark.slow
def test_every_checkpoint_is_an_artifact_if_asked(train: Train, tmp_path: Path) -> None:
    train(
        tmp_path, *VAE, "logger=wandb", "logger.log_model=all", "trainer.max_steps=3",
        "callbacks.checkpoint.every_n_train_steps=1", "callbacks.checkpoint.save_top_k=0",
    )  # fmt: skip
    kept = [artifact.manifest.contents[0].local_path for artifact in offline(tmp_path).artifacts]
    assert [read_training(Path(path))["global_step"] for path in kept] == [1, 2, 3]


def test_log_model_is_looked_at(train: Train, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"logger\.log_model=best must be true, false or all"):
        train(tmp_path, *VAE, "logger=wandb", "logger.log_model=best")


def test_wandb_that_dies_takes_no_run_with_it(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own process killed after the first row, then numbers, sound and checkpoints to log."""
    import wandb as client

    written = MetricsCSV.log_metrics

    def deadly(self: MetricsCSV, metrics: dict[str, float], step: int | None = None) -> None:
        for process in _children("wandb-core"):
            os.kill(process, signal.SIGKILL)
        written(self, metrics, step)

    monkeypatch.setattr(MetricsCSV, "log_metrics", deadly)
    client.teardown()  # a process of its own, that no other test shares
    train(
        tmp_path, *VAE, "logger=wandb", "logger.log_model=all", "trainer.max_steps=3",
        "callbacks.demo.every_n_steps=1",
    )  # fmt: skip
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2", "3"]
    assert read_training(tmp_path / "checkpoints/last.ckpt")["global_step"] == 3
    for what in ("numbers", "sound", "a checkpoint", "its end"):
        assert caplog.text.count(f"does not take {what} (") == 1
    with contextlib.suppress(ConnectionError):
        client.teardown()


def _children(name: str) -> list[int]:
    command = ["ps", "--ppid", str(os.getpid()), "-o", "pid=,comm="]
    listed = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return [int(line.split()[0]) for line in listed if line.split()[1] == name]


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
