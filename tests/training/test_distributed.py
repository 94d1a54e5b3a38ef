"""Runs of two processes, sharded or not, and what resumes from them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from glissando.checkpoints.files import read, read_training, whole
from glissando.errors import UserError
from tiny import DIT, GAN, RATE, SHORT, VAE, Train, numbers

ROOT = Path(__file__).resolve().parents[2]
CPU = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.val_check_interval=3"]

Processes = Callable[..., Path]


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Processes:
    """``processes(name, *overrides)``: a run of train.py as its user starts it; its run folder.

    40 tones, of which each of two processes has some to validate with.
    """
    root = tmp_path_factory.mktemp("two processes")
    songs = root / "songs"
    songs.mkdir()
    time_ = np.arange(int(1.5 * RATE)) / RATE
    for number in range(40):
        wave = 0.3 * np.sin(2 * np.pi * 110 * 2 ** (number / 20) * time_)
        soundfile.write(songs / f"tone{number}.wav", wave, RATE)
        (songs / f"tone{number}.txt").write_text(f"tone {number}")
    data = [
        "data=folder", f"data.root={songs}", f"data.sample_rate={RATE}", "data.splits.train=0.7",
        "data.splits.valid=0.3", "data.splits.test=0", f"prepare.shards={root / 'shards'}",
    ]  # fmt: skip

    def run(name: str, *overrides: str, kill_after: int | None = None) -> Path:
        folder = root / name
        command = [
            sys.executable, str(ROOT / "train.py"), *SHORT, *data, f"hydra.run.dir={folder}",
            *overrides,
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command, cwd=root, env=environment, text=True, stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        if kill_after is not None:
            _killed(process, folder, kill_after)
            return folder
        _, said = process.communicate(timeout=400)
        assert process.returncode == 0, said
        return folder

    return run


def _killed(process: subprocess.Popen[str], folder: Path, step: int) -> None:
    """SIGKILL for all processes of the run as soon as it has logged ``step``."""
    deadline = time.monotonic() + 300
    try:
        while not any(row["step"] == str(step) for row in _steps(folder)):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _steps(folder: Path) -> list[dict[str, str]]:
    try:
        return numbers(folder)
    except (FileNotFoundError, KeyError):
        return []


def losses(folder: Path) -> list[tuple[str, str, str]]:
    """Step, training loss and validation loss, as logged."""
    return [(r["step"], r["train/loss"], r.get("val/loss", "")) for r in numbers(folder)]


@pytest.fixture(scope="module")
def sharded(processes: Processes, vae: Path) -> tuple[Path, Path, list[str]]:
    """A DiT that two processes trained for four steps, sharded; the autoencoder; what it was."""
    dit = [*DIT, f"representation.autoencoder={vae}", "schedule.steps=6", "loader.batch_size=2"]
    dit += [*CPU, "callbacks.checkpoint.save_top_k=0"]
    return processes("fsdp", *dit, "trainer=fsdp", "trainer.max_steps=4"), vae, dit


def test_a_sharded_run_is_the_same_run(
    processes: Processes, sharded: tuple[Path, Path, list[str]]
) -> None:
    fsdp, _, dit = sharded
    ddp = processes("ddp", *dit, "trainer=ddp", "trainer.max_steps=4")
    assert losses(ddp) == losses(fsdp)
    # Each process holds half of every weight, its average and what the optimizer remembers of it.
    last = fsdp / "checkpoints" / "last.ckpt"
    parts = [torch.load(last / f"part-0000{i}.ckpt", weights_only=True) for i in (0, 1)]
    assert {name.split("/")[0] for name in parts[0]} == {"state_dict", "optimizer_states", "ema"}
    for name, rows in parts[0].items():
        assert 0 <= len(rows) - len(parts[1][name]) <= 1, name
    assert not list(last.parent.glob(".*"))


def test_a_sharded_checkpoint_goes_on_in_one_process_and_is_sampled_from(
    sharded: tuple[Path, Path, list[str]], train: Train, tmp_path: Path
) -> None:
    import glissando

    fsdp, vae, _ = sharded
    run = [*DIT, f"representation.autoencoder={vae}", "schedule.steps=6", f"ckpt={fsdp}"]
    train(tmp_path, *run, "trainer.max_steps=6")
    checkpoint = read_training(tmp_path / "checkpoints" / "last.ckpt")
    assert checkpoint["global_step"] == 6
    assert checkpoint["consumed"] == 6
    assert [row["step"] for row in numbers(tmp_path)] == ["5", "6"]
    (clip,) = glissando.load(fsdp).generate(["a tone"], seconds=1)
    assert clip.wave.shape == (1, RATE)
    assert clip.wave.abs().max() > 0


def test_a_damaged_part_is_noticed(sharded: tuple[Path, Path, list[str]], tmp_path: Path) -> None:
    import shutil

    last = tmp_path / "last.ckpt"
    shutil.copytree(sharded[0] / "checkpoints" / "last.ckpt", last)
    part = last / "part-00001.ckpt"
    part.write_bytes(part.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"last\.ckpt is damaged"):
        whole(last)


def test_an_autoencoder_is_not_sharded(train: Train, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train with trainer=ddp"):
        train(tmp_path, "trainer=fsdp", *VAE, "trainer.accelerator=cpu", "trainer.devices=1")


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [("fsdp", "ddp"), ("ddp", "fsdp")])
def test_sharded_or_not_goes_on_as_the_other(
    processes: Processes, sharded: tuple[Path, Path, list[str]], first: str, then: str
) -> None:
    *_, dit = sharded
    whole_run = processes(f"{then} whole", *dit, f"trainer={then}", "trainer.max_steps=6")
    half = processes(f"{first} half", *dit, f"trainer={first}", "trainer.max_steps=4")
    goes_on = ["trainer.max_steps=6", f"ckpt={half}"]
    there = processes(f"{first} {then}", *dit, f"trainer={then}", *goes_on)
    assert losses(there)[-1] == losses(whole_run)[-1]
    one, two = (read(f / "checkpoints" / "last.ckpt").weights for f in (there, whole_run))
    # The two add up their gradients in another order, so to the last digit but one.
    torch.testing.assert_close(one, two, atol=1e-7, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_killed_and_resumed_equals_the_whole(
    processes: Processes, sharded: tuple[Path, Path, list[str]], trainer: str
) -> None:
    """Two processes, SIGKILL three times at steps that no checkpoint knows of."""
    _, _, dit = sharded
    run = [*dit, f"trainer={trainer}", "trainer.max_steps=40", "schedule.steps=40"]
    run += ["callbacks.checkpoint.every_n_train_steps=4", "ckpt=last"]
    unbroken = processes(f"{trainer} whole", *run)
    for step in (6, 17, 30):
        broken = processes(f"{trainer} killed", *run, kill_after=step)
    broken = processes(f"{trainer} killed", *run)
    assert losses(broken) == losses(unbroken)
    one, two = (read_training(f / "checkpoints" / "last.ckpt") for f in (broken, unbroken))
    for key in ("state_dict", "ema", "optimizer_states", "consumed", "ema_updates"):
        torch.testing.assert_close(one[key], two[key], atol=0, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_flags_together(
    processes: Processes, sharded: tuple[Path, Path, list[str]], trainer: str
) -> None:
    """bf16, accumulation, clipping and checkpointing at once, in two processes."""
    *_, dit = sharded
    folder = processes(
        f"{trainer} flags", *dit, f"trainer={trainer}", "trainer.precision=bf16-mixed",
        "trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=0.5",
        "model.checkpointing=true", "trainer.max_steps=4",
    )  # fmt: skip
    assert [row["step"] for row in numbers(folder)] == ["1", "2", "3", "4"]
    assert all(np.isfinite(float(row["train/loss"])) for row in numbers(folder))
    # Two processes of two clips, twice a step.
    assert read_training(folder / "checkpoints" / "last.ckpt")["consumed"] == 8


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_processes_find_one_batch(
    processes: Processes, sharded: tuple[Path, Path, list[str]], trainer: str
) -> None:
    """And train as if they had been told: half of the 33 clips each."""
    *_, dit = sharded
    run = [*dit, f"trainer={trainer}", "trainer.max_steps=4"]
    sought = processes(f"{trainer} sought", *run, "trainer.find_batch_size=true")
    (batch,) = re.findall(r"batch_size: (\d+)\n", (sought / "config.yaml").read_text())
    assert int(batch) == 16
    told = processes(f"{trainer} told", *run, f"loader.batch_size={batch}")
    assert losses(told) == losses(sought)
    one, two = (read_training(f / "checkpoints" / "last.ckpt") for f in (told, sought))
    for key in ("state_dict", "ema", "optimizer_states", "consumed", "place"):
        torch.testing.assert_close(one[key], two[key], atol=0, rtol=0)


@pytest.mark.slow
def test_killed_ten_times_in_a_row(processes: Processes) -> None:
    """One process, with an adversary: both sides' weights and optimizers."""
    run = [*GAN, "trainer.max_steps=60", "schedule.steps=60", "trainer.val_check_interval=7"]
    run += ["callbacks.checkpoint.every_n_train_steps=3", "ckpt=last"]
    unbroken = processes("gan whole", *run)
    chance = np.random.default_rng(0)
    for step in sorted(chance.choice(np.arange(4, 58), 10, replace=False)):
        processes("gan killed", *run, kill_after=int(step))
    broken = processes("gan killed", *run)
    assert losses(broken) == losses(unbroken)
    one, two = (read_training(f / "checkpoints" / "last.ckpt") for f in (broken, unbroken))
    for key in ("state_dict", "ema", "optimizer_states", "consumed", "ema_updates"):
        torch.testing.assert_close(one[key], two[key], atol=0, rtol=0)


@pytest.mark.slow
def test_an_adversary_in_two_processes(processes: Processes) -> None:
    folder = processes("gan ddp", *GAN, *CPU, "trainer=ddp", "trainer.max_steps=6")
    weights: dict[str, Any] = read(folder / "checkpoints" / "last.ckpt").weights
    assert any(name.startswith("discriminator.") for name in weights)
    assert all(w.isfinite().all() for w in weights.values() if w.is_floating_point())
