"""Bad input to `train.py`, `glissando prepare` and `encode`: one line that helps, and status 1."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from glissando.datasets.folder import Folder
from glissando.datasets.prepare import prepare
from tiny import RATE, SHORT, VAE, Said, refused

Command = Callable[..., Said]


@pytest.fixture
def data(songs: Path) -> list[str]:
    """The tones, in ``shards`` of the working directory."""
    return ["data=folder", f"data.root={songs}", f"data.sample_rate={RATE}",
            "prepare.shards=shards", "prepare.workers=1"]  # fmt: skip


@pytest.fixture(scope="module")
def prepared(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    prepare(Folder(songs, sample_rate=RATE), root, progress=False)
    return root


@pytest.fixture
def training(command: Command, data: list[str], prepared: Path) -> Command:
    """``python train.py`` of a tiny autoencoder on the tones, prepared already, for a step."""
    shutil.copytree(prepared, "shards")

    def training(*argv: str) -> Said:
        run = [*SHORT, *data, *VAE, "trainer.max_steps=1", "hydra.run.dir=run"]
        return command("train", *run, *argv)

    return training


@pytest.mark.parametrize(("argument", "line"), [
    ("model.widht=3", "unknown key model.widht"),
    ("model.encoder_widht=3", "unknown key model.encoder_widht; did you mean model.encoder_width?"),
    ("trainer.max_steps=many", "trainer.max_steps=many: wants a number"),
    ("optimizer.lr=fast", "optimizer.lr=fast: wants a number"),
    ("experiment=dmeo", "unknown experiment=dmeo; did you mean experiment=demo?"),
    ("trainer.precision=bf17", "trainer: Precision 'bf17' is invalid. Allowed"),
    ("trainer.accelerator=gpus", "trainer: You selected an invalid accelerator name"),
    ("trainer.devices=two", "trainer.devices=two: wants a number"),
    ("seed=-1", "seed must be a whole number from 0 on, not -1"),
    ("ckpt=no/where.ckpt", "ckpt=no/where.ckpt does not exist; n"),
    ("init=no/where.ckpt", "init=no/where.ckpt does not exist; n"),
    ("data.root=nowhere", "data.root=nowhere is not a folder"),
    ("hydra.run.dir=taken/run", "NotADirectoryError: [Errno 20] Not a directory: 'taken/run'"),
])  # fmt: skip
def test_a_wrong_argument(training: Command, argument: str, line: str) -> None:
    Path("taken").write_text("")
    refused(training(argument), line)


def test_a_misspelt_width_of_the_dit(command: Command) -> None:
    refused(command("train", "model=dit", "model.widht=3"),
            "unknown key model.widht; did you mean model.width?")  # fmt: skip


@pytest.mark.parametrize("name", ["prepare", "encode"])
def test_a_folder_that_is_not_named_or_not_there(command: Command, name: str) -> None:
    refused(command(name, "data=folder"), "data.root has no value yet: set data.root=")
    refused(command(name, "data=folder", "data.root=/no where"), "data.root=/no where is not a fol")
    Path("empty").mkdir()
    refused(command(name, "data=folder", "data.root=empty"), "no audio file below data.root=")


def test_a_folder_of_damaged_files(command: Command, tmp_path: Path) -> None:
    Path("music").mkdir()
    Path("music/a.wav").write_bytes(b"RIFF no sound")
    refused(command("prepare", "data=folder", "data.root=music", "prepare.shards=s"),
            "s: every one of 1 clips was refused, e.g. ")  # fmt: skip
    assert not Path("s/dataset.json").exists()


@pytest.mark.parametrize("damage", ["torn json", "no index", "torn tar", "no tar", "noise"])
def test_a_damaged_dataset_is_one_line_or_made_whole(
    command: Command, training: Command, data: list[str], damage: str
) -> None:
    facts = Path("shards/dataset.json")
    tar = Path("shards/train/000000.tar")
    whole = tar.read_bytes()
    spoil: dict[str, Callable[[], Any]] = {
        "torn json": lambda: facts.write_bytes(facts.read_bytes()[:50]),
        "no index": lambda: tar.with_suffix(".index.json").unlink(),
        "torn tar": lambda: tar.write_bytes(whole[:5000]),
        "no tar": tar.unlink,
        "noise": lambda: tar.write_bytes(os.urandom(len(whole))),
    }
    spoil[damage]()
    said = training()
    if said.status:
        refused(said, "")
        assert "glissando prepare" in said.err
        if "delete" in said.err:
            tar.unlink()
        more = ["overwrite=true"] if "overwrite=true" in said.err else []
        again = command("prepare", *data, *more)
        assert again.status == 0, again.err
    assert tar.read_bytes() == whole


def test_new_songs_are_found_by_preparing_again(command: Command, songs: Path) -> None:
    shutil.copytree(songs, "music")
    data = ["data=folder", "data.root=music", f"data.sample_rate={RATE}", "prepare.shards=shards"]
    assert command("prepare", *data).status == 0
    shutil.copy("music/tone00.wav", "music/new.wav")
    assert "13 clips" in command("prepare", *data).err


def test_latents_of_other_audio_are_not_read(command: Command, data: list[str], vae: Path) -> None:
    encode = [*data, f"representation.autoencoder={vae}"]
    assert command("encode", *encode).status == 0
    (facts,) = Path("data/latents").glob("*/dataset.json")
    before = json.loads(facts.read_text())
    said = command("encode", *encode, "data.seconds=0.6", "overwrite=true")
    assert said.status == 0, said.err
    after = json.loads(facts.read_text())
    assert after["audio"] != before["audio"]
    assert after["splits"]["train"]["samples"] > before["splits"]["train"]["samples"]


def test_damaged_latents_are_encoded_again(command: Command, data: list[str], vae: Path) -> None:
    encode = [*data, f"representation.autoencoder={vae}"]
    said = command("encode", *encode)
    assert said.status == 0, said.err
    (facts,) = Path("data/latents").glob("*/dataset.json")
    tar = facts.parent / "train" / "000000.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:1000])
    facts.unlink()  # an interrupted encoding
    assert command("encode", *encode).status == 0
    assert tar.read_bytes() == whole


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_no_space_left_while_preparing(
    command: Command, data: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        refused(
            command("prepare", *data),
            "cannot write shards: No space left on device; what is whole is kept",
        )
    assert not [path for path in Path("shards").rglob("*") if path.suffix in (".tar", ".part")]
    assert command("prepare", *data).status == 0


def test_no_space_left_while_saving(training: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        said = training()
    assert said.status == 1
    assert said.err.splitlines()[-1].startswith("error: no space left on the disk")
    assert "Traceback" not in said.err
    assert not list(Path("run").glob("**/*.ckpt*"))
    assert training("ckpt=last").status == 0


def test_ctrl_c_while_a_clip_is_made(
    command: Command, data: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Folder, job: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "make", interrupted)
        said = command("prepare", *data)
    assert said.status == 130
    assert said.err.splitlines()[-1].startswith("interrupted: whole shards are kept")
    assert "Traceback" not in said.err
    assert not list(Path("shards").rglob("*.tar"))


def test_data_of_other_settings_names_what_to_do(command: Command, data: list[str]) -> None:
    assert command("prepare", *data).status == 0
    said = command("prepare", *data, "data.channels=2")
    refused(said, "")
    assert "overwrite=true" in said.err
    assert command("prepare", *data, "data.channels=2", "overwrite=true").status == 0
    assert json.loads(Path("shards/dataset.json").read_text())["channels"] == 2
