"""Runs of two processes, sharded or not, and what resumes from them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule

import wandb_offline
from glissando.checkpoints.files import read, read_training, whole
from glissando.conditioning.adaln import AdaLNZero
from glissando.errors import UserError
from glissando.networks.branch import Branch
from glissando.networks.unet import UNet
from glissando.training.sharding import Door, shard
from tiny import DIT, GAN, MEL, RATE, SHORT, UNET, VOCODER, Train, numbers

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
        # Tests that shard in this very process leave behind where it is to be met.
        mine = {
            k: v for k, v in os.environ.items() if not k.startswith(("MASTER_", "LOCAL_", "NODE_"))
        }
        environment = {**mine, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
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
    logged = ["logger=wandb", "logger.mode=offline", "logger.log_model=true"]
    return processes("fsdp", *dit, *logged, "trainer=fsdp", "trainer.max_steps=4"), vae, dit


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


def test_a_sharded_checkpoint_is_an_artifact(sharded: tuple[Path, Path, list[str]]) -> None:
    """All processes' files, as second names of the same bytes."""
    (artifact,) = wandb_offline.read(sharded[0]).artifacts
    last = sharded[0] / "checkpoints" / "last.ckpt"
    kept = {content.path: Path(content.local_path) for content in artifact.manifest.contents}
    assert kept.keys() == {path.name for path in last.iterdir()}
    assert all(path.samefile(last / name) for name, path in kept.items())
    (folder,) = {path.parent for path in kept.values()}
    assert whole(folder) == folder
    assert read(folder).weights.keys() == read(last).weights.keys()


def test_each_block_of_a_u_net_is_sharded_alone(tmp_path: Path) -> None:
    adaln = {"adaln_zero": partial(AdaLNZero, reads=["noise"])}
    network = UNet(8, {}, adaln, width=16, heads=2, expansion=2)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        shard(Door({"network": network}), dist.init_device_mesh("cpu", (1,)))
    finally:
        dist.destroy_process_group()
    alone = [module for module in network.modules() if isinstance(module, FSDPModule)]
    assert alone == network.blocks
    assert {id(w) for block in alone for w in block.parameters()} >= {
        id(w) for branch in network.modules() if isinstance(branch, Branch)
        for w in branch.parameters()
    }  # fmt: skip


def test_a_damaged_part_is_noticed(sharded: tuple[Path, Path, list[str]], tmp_path: Path) -> None:
    import shutil

    last = tmp_path / "last.ckpt"
    shutil.copytree(sharded[0] / "checkpoints" / "last.ckpt", last)
    part = last / "part-00001.ckpt"
    part.write_bytes(part.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"last\.ckpt is damaged"):
        whole(last)


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
def test_a_u_net_is_the_same_run_and_goes_on_in_one_process(
    processes: Processes, vae: Path
) -> None:
    """With prefixes, which reach its blocks from outside of them."""
    unet = [*UNET, f"representation.autoencoder={vae}", "schedule.steps=6", "loader.batch_size=2"]
    unet += [*CPU, "callbacks.checkpoint.save_top_k=0"]
    fsdp, ddp = (
        processes(f"unet {each}", *unet, f"trainer={each}", "trainer.max_steps=4")
        for each in ("fsdp", "ddp")
    )
    assert losses(fsdp) == losses(ddp)
    one, two = (read(f / "checkpoints" / "last.ckpt").weights for f in (fsdp, ddp))
    torch.testing.assert_close(one, two, atol=1e-7, rtol=1e-5)
    alone = ["trainer=cpu", "trainer.devices=1", "loader.batch_size=4", "trainer.max_steps=6"]
    goes_on = processes("unet alone", *unet, *alone, f"ckpt={fsdp}")
    checkpoint = read_training(goes_on / "checkpoints" / "last.ckpt")
    assert (checkpoint["global_step"], checkpoint["consumed"]) == (6, 6)


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


ADVERSARIAL = {
    "vae": GAN, "quantized": [*GAN, "bottleneck=rvq"], "vocoder": VOCODER,
    "balanced": [*GAN, "vae.balance=0.9"],
    "mel": [*MEL, "vae.adversarial_start=2", "representation.discriminator.width=4",
            "representation.discriminator.layers=1"],
}  # fmt: skip


@pytest.fixture
def alone() -> Iterator[None]:
    """Ends the process group that a sharded run of this very process leaves."""
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.parametrize(
    "name", ["vae", *(pytest.param(n, marks=pytest.mark.slow) for n in ADVERSARIAL if n != "vae")]
)
@pytest.mark.usefixtures("alone")
def test_an_adversary_sharded_over_one_process(train: Train, tmp_path: Path, name: str) -> None:
    """Gathered for use and freed after it, as over many: what is used elsewhere is not there."""
    run = [*ADVERSARIAL[name], "trainer.max_steps=4", "schedule.steps=4"]
    train(tmp_path / "fsdp", *run, "trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=1")
    train(tmp_path / "cpu", *run)
    one, two = (read_training(tmp_path / f / "checkpoints/last.ckpt") for f in ("fsdp", "cpu"))
    assert any(each.startswith("discriminator.") for each in one["state_dict"])
    for key in ("state_dict", "ema", "optimizer_states"):
        torch.testing.assert_close(one[key], two[key], atol=1e-6, rtol=1e-4)
    assert_alike(losses(tmp_path / "fsdp"), losses(tmp_path / "cpu"))


def assert_alike(one: list[tuple[str, ...]], two: list[tuple[str, ...]]) -> None:
    """But for rounding: clipping adds up the squares of a sharded gradient in another order."""
    for first, second in zip(one, two, strict=True):
        assert list(map(float, filter(None, first))) == pytest.approx(
            list(map(float, filter(None, second))), rel=1e-6
        )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "network"), ADVERSARIAL.items())
def test_an_adversary_is_sharded_or_not(
    processes: Processes, name: str, network: list[str]
) -> None:
    """Generator, adversary and both optimizers; and what was sharded goes on in one process.

    Compared after the first step of both: Adam, and the balancer of a gradient of 1e-6, make
    what is rounding there a hundred times larger in each further one.
    """
    run = [*network, *CPU, "callbacks.checkpoint.save_top_k=0", "schedule.steps=6"]
    fsdp, ddp = (
        processes(f"{name} {each}", *run, f"trainer={each}", "trainer.max_steps=3")
        for each in ("fsdp", "ddp")
    )
    assert_alike(losses(fsdp), losses(ddp))
    one, two = (read_training(f / "checkpoints" / "last.ckpt") for f in (fsdp, ddp))
    assert any(each.startswith("discriminator.") for each in one["state_dict"])
    for key in ("state_dict", "ema", "optimizer_states"):
        torch.testing.assert_close(one[key], two[key], atol=1e-6, rtol=1e-4)
    rows = torch.load(fsdp / "checkpoints/last.ckpt/part-00000.ckpt", weights_only=True)
    assert {each.split("/")[0] for each in rows} == {"state_dict", "optimizer_states", "ema"}
    alone = ["trainer=cpu", "trainer.devices=1", "trainer.max_steps=6", f"ckpt={fsdp}"]
    goes_on = processes(f"{name} alone", *run, *alone)
    assert read_training(goes_on / "checkpoints" / "last.ckpt")["global_step"] == 6
