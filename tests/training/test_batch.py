"""The largest batch that fits: how it is sought, and that the run does not know of it."""

from __future__ import annotations

import math
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from glissando.datasets.stream import open_stream
from glissando.errors import UserError
from glissando.training.adversary import AdversarialModule
from glissando.training.batch import Share, _longest, largest
from glissando.training.diffusion import DiffusionModule
from tiny import DIT, GAN, RATE, Train, numbers, stored

FIND = "trainer.find_batch_size=true"
# 14 MiB a clip, and 3 whatever the batch: 0.1 GiB hold some of the ten and not all.
WIDE = [*GAN, "model.decoder_width=256", "loader.seconds=1.5", "trainer.batch_gib=0.1"]
FOUND = re.compile(r"find_batch_size: (\d+) clips a process fit(.*) \((\d+)% of (.+) GiB\)")


def found(said: str) -> tuple[int, int]:
    """Clips, and per cent of the memory, of the one line that says so."""
    ((clips, _, share, _),) = FOUND.findall(said)
    return int(clips), int(share)


def assert_same(first: Path, second: Path) -> None:
    """Every number, weights, averages, optimizers, and the place in the data."""
    assert numbers(first) == numbers(second)
    one, two = stored(first), stored(second)
    for key in ("state_dict", "ema", "optimizer_states", "consumed", "place", "ema_updates"):
        torch.testing.assert_close(one[key], two[key], atol=0, rtol=0)


@given(st.floats(0.01, 0.6), st.integers(1, 5000), st.integers(1, 5000))
def test_told_when_it_is_too_much_the_search_is_exact(fixed: float, fit: int, cap: int) -> None:
    each = (1 - fixed) / (fit + 0.5)
    tries: list[int] = []

    def share(rows: int) -> Share:
        tries.append(rows)
        return Share(math.inf if fixed + each * rows > 1 else 0.0)

    assert largest(share, cap, cautious=False) == min(fit, cap)
    assert len(tries) <= 2 * math.log2(min(fit, cap)) + 3


@given(
    st.floats(0, 0.8), st.floats(0, 1), st.integers(1, 5000), st.integers(1, 5000),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_a_cautious_search_never_tries_too_much(
    held: float, passing: float, fit: int, cap: int, chance: random.Random
) -> None:
    """The peak of a moment that grows with the batch or of one that does not, as measured."""
    each = (1 - held) / (fit + 0.5)
    flat = held + passing * 0.45 * (1 - held)
    shares: list[float] = []

    def share(rows: int) -> Share:
        shares.append(max(flat, held + each * rows))
        return Share(shares[-1] * chance.uniform(0.995, 1.005), held)

    got = largest(share, cap, cautious=True)
    assert max(shares[1:], default=0) < 1.05  # of what is free a tenth is kept
    assert got + 1 >= min(fit, cap) * (0.95 - 0.006 / (1 - held))
    assert len(shares) < 30


def test_nothing_fits() -> None:
    assert largest(lambda rows: Share(1.5, 1.2), 100, cautious=True) == 0
    assert largest(lambda rows: Share(math.inf), 100, cautious=False) == 0


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param("dit", marks=pytest.mark.slow),
        "gan",
        pytest.param("compiled", marks=pytest.mark.slow),
    ],
)
def test_a_run_does_not_know_that_its_batch_was_sought(
    train: Train, tmp_path: Path, vae: Path, capfd: Any, stage: str
) -> None:
    dit = [*DIT, f"representation.autoencoder={vae}"]
    own = {
        "dit": [*dit, "trainer.accumulate_grad_batches=2"], "gan": WIDE,
        "compiled": [*dit, "compile=true", "model.checkpointing=true"],
    }[stage]  # fmt: skip
    run = [*own, "trainer.max_steps=3", "trainer.val_check_interval=2"]
    capfd.readouterr()
    train(tmp_path / "sought", *run, FIND)
    clips, share = found(capfd.readouterr().err)
    if stage != "gan":
        assert clips == 10  # all
    else:
        assert 5 <= clips < 10
        assert 75 < share <= 100
    train(tmp_path / "told", *run, f"loader.batch_size={clips}")
    assert_same(tmp_path / "sought", tmp_path / "told")
    assert stored(tmp_path / "sought")["glissando"]["config"]["loader"]["batch_size"] == clips
    assert f"batch_size: {clips}\n" in (tmp_path / "sought" / "config.yaml").read_text()
    if stage == "gan":  # and goes on with more memory, as when other programs have ended
        more = [*run, "trainer.max_steps=4", "trainer.batch_gib=0.3"]
        train(tmp_path / "sought", *more, FIND, "ckpt=last")
        said = capfd.readouterr().err
        assert f"the batch stays at {clips}, with which" in said
        assert not FOUND.search(said)
        config = stored(tmp_path / "sought")["glissando"]["config"]
        assert config["loader"]["batch_size"] == clips


def test_the_heaviest_steps_are_tried(
    train: Train, tmp_path: Path, vae: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """Out of memory with the adversary, which begins later; in the second half of a step; in the
    second step."""
    enough = AdversarialModule._train_discriminator

    def adversary(self: Any, real: Any, fake: Any, batch_idx: int) -> Any:
        if len(real) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return enough(self, real, fake, batch_idx)

    monkeypatch.setattr(AdversarialModule, "_train_discriminator", adversary)
    train(tmp_path / "gan", *GAN, "trainer.max_steps=3", FIND)
    assert found(capfd.readouterr().err)[0] == 3

    step = DiffusionModule.training_step

    def second(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 1 and batch_idx == 3 and len(batch) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(DiffusionModule, "training_step", second)
    run = [*DIT, f"representation.autoencoder={vae}", "trainer.accumulate_grad_batches=3"]
    train(tmp_path / "dit", *run, "trainer.max_steps=1", FIND)
    assert found(capfd.readouterr().err)[0] == 5


def test_what_does_not_fit_at_all(train: Train, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not even one clip fits into 0.001 GiB: lower loader"):
        train(tmp_path, *WIDE, "trainer.max_steps=1", "trainer.batch_gib=0.001", FIND)
    with pytest.raises(UserError, match=r"trainer\.batch_gib must be above 0"):
        train(tmp_path, *WIDE, "trainer.max_steps=1", "trainer.batch_gib=0", FIND)


def test_the_longest_clips_are_tried(train: Train, tmp_path: Path) -> None:
    from glissando.datasets.folder import Folder
    from glissando.datasets.prepare import prepare

    songs = tmp_path / "songs"
    songs.mkdir()
    lengths = np.random.default_rng(0).permutation(np.arange(800, 8800, 400))
    for number, length in enumerate(lengths):
        soundfile.write(songs / f"{number}.wav", 0.1 * np.ones(length), RATE)
        (songs / f"{number}.txt").write_text(f"tone {number}")
    folder = Folder(str(songs), sample_rate=RATE, splits={"train": 0.8, "valid": 0.1, "test": 0.1})
    prepare(folder, tmp_path / "shards", samples_per_shard=4, progress=False)
    stream = open_stream(tmp_path / "shards", "train", None, 1)
    there = sorted(
        (sample["frames"] for shard in stream.shards for sample in shard.samples), reverse=True
    )
    batch = _longest(stream, 5)
    assert batch.mask is not None
    assert batch.mask.sum(1).tolist() == there[:5]
    assert len(_longest(stream, stream.samples)) == stream.samples
