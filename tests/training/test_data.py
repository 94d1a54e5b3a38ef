from __future__ import annotations

import re
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from glissando.datasets.base import Batch
from glissando.datasets.shards import open_shards
from glissando.errors import UserError
from glissando.training.autoencoder import AutoencoderModule
from glissando.training.data import Clips
from tiny import VAE, Train, stored


@pytest.fixture(scope="session")
def shards(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared dataset of the tones: 10 clips to train on."""
    folder = tmp_path_factory.mktemp("prepared")
    train(
        folder / "run", *VAE, f"prepare.shards={folder / 'shards'}", "trainer.max_steps=1",
        "data.splits={train:0.85,valid:0.1,test:0.05}", "trainer.limit_val_batches=0",
    )  # fmt: skip
    return folder / "shards"


def keys(clips: Clips, count: int) -> list[list[str]]:
    return [batch.keys for batch in islice(iter(clips.train_dataloader()), count)]


def epoch_size(shards: Path) -> int:
    return Clips(str(shards), 1, 0.25).stream("train").samples


@pytest.mark.parametrize("workers", [1, 2, 5])  # of 3 batches an epoch, from one shard
def test_the_sequence_does_not_depend_on_the_workers(shards: Path, workers: int) -> None:
    alone = keys(Clips(str(shards), 3, 0.25), 11)
    assert keys(Clips(str(shards), 3, 0.25, workers=workers), 11) == alone
    assert len({tuple(batch) for batch in alone}) > 6  # epochs differ


@pytest.mark.parametrize("consumed", range(8))
def test_it_goes_on_where_it_was(shards: Path, consumed: int) -> None:
    whole = keys(Clips(str(shards), 4, 0.25), 12)
    clips = Clips(str(shards), 4, 0.25)
    keys(clips, 0)
    for _ in range(consumed):
        clips.advance()
    again = Clips(str(shards), 4, 0.25)
    again.consumed, again.place = clips.consumed, clips.place
    assert keys(again, 12 - consumed) == whole[consumed:]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_another_batch_size_goes_on_with_what_is_left(shards: Path, size: int) -> None:
    """Nothing that the epoch has given comes again before its end, nothing is lost."""
    samples = epoch_size(shards)
    clips = Clips(str(shards), 4, 0.25)
    given = [key for batch in keys(clips, 1) for key in batch]
    clips.advance()
    other = Clips(str(shards), size, 0.25)
    other.place = clips.place
    steps = (samples - 4) // size
    rest = [key for batch in keys(other, steps) for key in batch]
    assert not set(given) & set(rest)
    assert len({*given, *rest}) == 4 + steps * size > samples - size
    # A batch larger than what is left begins the next epoch.
    huge = Clips(str(shards), samples - 3, 0.25)
    huge.place = clips.place
    keys(huge, 0)
    assert huge.place == (1, 0)


@pytest.mark.parametrize(("name", "value"), [
    ("batch_size", 0), ("batch_size", 2.5), ("batch_size", [4]), ("workers", -1), ("seconds", 0),
])  # fmt: skip
def test_a_wrong_value_names_its_flag(shards: Path, name: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"loader\.{name} must be .*{re.escape(str(value))}"):
        Clips(str(shards), **{"batch_size": 3, name: value})


def test_an_epoch_smaller_than_a_batch(shards: Path) -> None:
    clips = Clips(str(shards), 100, 0.25)
    for batch in keys(clips, 3):
        assert len(set(batch)) == epoch_size(shards)
    clips.advance()
    assert clips.place == (1, 0)


def test_a_run_sees_each_clip_once_an_epoch(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    step = AutoencoderModule.training_step

    def watched(self: AutoencoderModule, batch: Batch, batch_idx: int) -> Any:
        seen.append(batch.keys)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(AutoencoderModule, "training_step", watched)
    train(tmp_path, *VAE, "trainer.max_steps=1")
    train(tmp_path, *VAE, "trainer.max_steps=4", "ckpt=last", "loader.batch_size=2")
    # 10 clips: 4, then 2 at a time to the end of the epoch.
    first = [key for batch in seen[:4] for key in batch]
    assert len(first) == len(set(first)) == 10
    assert stored(tmp_path)["place"] == [1, 0]


def test_how_many_samples_may_be_unreadable_is_a_flag(shards: Path, tmp_path: Path) -> None:
    shutil.copytree(shards, tmp_path / "damaged")
    shard = open_shards(tmp_path / "damaged", "train")[0]
    offset, size = shard.samples[0]["members"]["flac"]
    with Path(shard.tar).open("r+b") as file:
        file.seek(offset)
        file.write(bytes(size))
    one_of_ten = Clips(str(tmp_path / "damaged"), 5, 0.25)
    with pytest.raises(UserError, match=r"1 of 10 samples .* more than loader\.corrupt=0\.05 of"):
        keys(one_of_ten, 2)
    (first, second) = keys(Clips(str(tmp_path / "damaged"), 5, 0.25, corrupt=0.1), 2)
    assert shard.samples[0]["key"] not in first + second
    assert Clips(str(shards), 5, lost=0.3).stream("train").lost == 0.3
    for wrong in (-0.1, 5):
        with pytest.raises(UserError, match=r"loader\.corrupt must be a share from 0 to 1"):
            Clips(str(shards), 5, corrupt=wrong)
