"""What is wrong with a command line is refused before any data is prepared or encoded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tiny import DIT, RATE, SHORT, VAE, Said, refused

Command = Callable[..., Said]


@pytest.fixture
def data(songs: Path) -> list[str]:
    """The tones, not prepared yet."""
    return ["data=folder", f"data.root={songs}", f"data.sample_rate={RATE}",
            "prepare.shards=shards"]  # fmt: skip


@pytest.fixture
def training(command: Command, data: list[str], vae: Path) -> Command:
    """``training(stage, …)``: ``python train.py`` of a tiny model in a folder without any data."""
    stages = {"vae": VAE, "dit": [*DIT, f"representation.autoencoder={vae}"]}

    def training(stage: str, *argv: str) -> Said:
        run = [*SHORT, *data, *stages[stage], "trainer.max_steps=1", "hydra.run.dir=run"]
        return command("train", *run, *argv)

    return training


def nothing_was_prepared() -> None:
    assert not Path("shards").exists()
    assert not Path("data").exists()


WRONG = [
    ("vae", "loader.batch_size=0", "loader.batch_size must be a whole number from 1 on, not 0"),
    ("dit", "loader.workers=-1", "loader.workers must be a whole number from 0 on, not -1"),
    ("vae", "loader.seconds=0", "loader.seconds must be above 0, or null for whole clips: 0"),
    ("vae", "prepare.workers=0", "prepare.workers must be a whole number from 1 on, not 0"),
    ("dit", "init=no/where.ckpt", "init=no/where.ckpt does not exist"),
    ("vae", "ckpt=no/where.ckpt", "ckpt=no/where.ckpt does not exist"),
    ("dit", "data.sample_rate=4000", "the data has sample_rate 4000 and the autoencoder works at"),
    ("dit", "model.heads=3", "model.width=32 is not divisible by model.heads=3"),
    ("vae", "optimizer.lr=-1", "optimizer: Invalid learning rate: -1"),
]  # fmt: skip
MORE = [
    ("dit", "loader.batch_size=2.5", "loader.batch_size must be a whole number from 1 on, not 2.5"),
    ("dit", "prepare.samples_per_shard=0", "prepare.samples_per_shard must be a whole number from"),
    ("dit", "representation.autoencoder=no/where", "representation.autoencoder=no/where does not"),
    ("dit", "data.channels=2", "the data has channels 2 and the autoencoder works at 1: set data."),
    ("dit", "loader.lost=2", "loader.lost must be a share from 0 to 1, not 2"),
    ("dit", "diffusion.dropout=2", "diffusion.dropout must be between 0 and 1, not 2"),
    ("dit", "ema=2", "ema must be from 0 to below 1"),
    ("vae", "trainer.precision=bf17", "trainer: Precision 'bf17' is invalid"),
    ("vae", "trainer.devices=0", "trainer: `Trainer(devices=0)` value is not a valid input"),
    ("dit", "trainer.val_check_interval=0.5", "trainer.val_check_interval must be a whole number"),
    ("dit", "trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches must be a whole"),
    ("vae", "trainer.gradient_clip_val=1", "a module with an adversary optimizes by itself: set"),
    ("vae", "vae.accumulate=0", "vae.accumulate must be a whole number from 1 on, not 0"),
    ("vae", "callbacks.checkpoint.save_top_k=-2", "callbacks.checkpoint.save_top_k must be"),
    ("dit", "callbacks.demo.seconds=0", "callbacks.demo.seconds must be above 0 and finite, not 0"),
    ("vae", "core_seconds=0", "core_seconds must be above 0 and finite, not 0"),
    ("vae", "trainer.precision=16-mixed", "trainer.precision=16-mixed scales gradients, and vae"),
    ("vae", "matmul_precision=lowest", "matmul_precision=lowest is none of"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "argument", "line"),
    [*WRONG, *(pytest.param(*each, marks=pytest.mark.slow) for each in MORE)],
)
def test_a_wrong_run_is_refused_at_once(
    training: Command, stage: str, argument: str, line: str
) -> None:
    refused(training(stage, argument), line)
    nothing_was_prepared()


@pytest.mark.parametrize("stage", ["vae", "dit"])
def test_a_gpu_that_is_not_there(training: Command, stage: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    said = training(stage, "trainer=gpu")
    refused(said, "trainer: No supported gpu backend found")
    assert "trainer=auto" in said.err
    nothing_was_prepared()


def test_weights_that_do_not_fit(training: Command, vae: Path) -> None:
    refused(training("dit", f"init={vae}"), f"init={vae} does not fit model=dit_tiny")
    said = training("vae", "model.encoder_width=8", f"ckpt={vae}")
    refused(said, f"ckpt={vae}/checkpoints/last.ckpt cannot go on as this run")
    nothing_was_prepared()


def test_an_encoding_that_cannot_be(command: Command, data: list[str], vae: Path) -> None:
    for arguments, line in (
        (["representation.autoencoder=no/where"], "representation.autoencoder=no/where does not"),
        ([f"representation.autoencoder={vae}", "data.sample_rate=4000"], "the data has sample_r"),
        ([f"representation.autoencoder={vae}", "prepare.workers=0"], "prepare.workers must be"),
    ):  # fmt: skip
        refused(command("encode", *data, *arguments), line)
        nothing_was_prepared()


def test_a_batch_larger_than_the_training_set_takes_all_of_it_and_says_so(
    training: Command,
) -> None:
    said = training("vae", "loader.batch_size=64")
    assert said.status == 0, said.err
    there = json.loads(Path("shards/dataset.json").read_text())["splits"]["train"]["samples"]
    assert f"every step takes all {there} training clips: loader.batch_size asks for 64" in said.err
