"""What widens sound: trained, then applied by sample.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from glissando.cli.sample import paths_of
from glissando.errors import UserError
from glissando.generation import load
from tiny import DIT, RATE, Said, Train, numbers, refused

SMALL = [
    "representation.n_fft=256", "representation.hop=64", "representation.bands=24",
    "model.width=16", "model.depth=1", "loader.seconds=0.25", "loader.batch_size=4",
    "loader.workers=0", "gan.adversarial_start=2", "reconstruction.sizes=[256,64]",
    "discriminator.parts.periods.width=1", "discriminator.parts.resolutions.width=2",
    "discriminator.parts.resolutions.sizes=[128]", "trainer.max_steps=8",
    "trainer.val_check_interval=8", "schedule.warmup=0", "optimizer.lr=5e-3",
]  # fmt: skip


def test_training_and_sampling(
    train: Train, vae: Path, command: Callable[..., Said], tmp_path: Path
) -> None:
    wide, stereo, dit = tmp_path / "wide", tmp_path / "stereo", tmp_path / "dit"
    twice = f"data.sample_rate={2 * RATE}"
    train(wide, "model=bandwidth_extension", *SMALL, f"input_rate={RATE}", twice,
          f"prepare.shards={tmp_path / 'twice'}")  # fmt: skip
    train(stereo, "model=mono_to_stereo", *SMALL, twice, f"prepare.shards={tmp_path / 'two'}")
    for folder in (wide, stereo):
        last = numbers(folder)[-1]
        assert "train/discriminator" in last
        assert "val/mel" in last
    train(dit, *DIT, f"representation.autoencoder={vae}", "trainer.max_steps=1")

    quick = [f"ckpt={dit}", "prompt=a tone", "sampler.steps=1", "seconds=0.5"]
    said = command("sample", *quick, f'cascade=["{wide}", "{stereo}"]', "out=clips")
    assert said.status == 0, said.err
    wave, rate = soundfile.read("clips/000.wav")
    assert (wave.shape, rate) == ((RATE, 2), 2 * RATE)
    facts = json.loads(Path("clips/000.json").read_text())
    assert facts["cascade"] == [str(wide), str(stereo)]
    assert facts["sample_rate"] == 2 * RATE
    said = command("sample", *quick, f"cascade={wide}", "out=more")
    assert said.status == 0, said.err
    assert soundfile.info("more/000.wav").channels == 1

    said = command("sample", *quick, f"cascade={stereo}")
    refused(said, f"cascade={stereo} takes {2 * RATE} Hz and would be given {RATE}: use another")
    said = command("sample", *quick, f"cascade={vae}")
    refused(said, f"cascade={vae} is a checkpoint of kind autoencoder")
    refused(command("sample", *quick, "cascade=/no"), "cascade=/no does not exist")
    with pytest.raises(UserError, match=r"a cascade checkpoint, .*sample\.py cascade="):
        load(str(wide))


def test_mono_data_and_a_rate_that_does_not_divide_are_refused(
    train: Train, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"set data\.channels=2"):
        train(tmp_path, "model=mono_to_stereo", "data.channels=1")
    with pytest.raises(UserError, match=r"input_rate=11025 must be data\.sample_rate=8000"):
        train(tmp_path, "model=bandwidth_extension")
    with pytest.raises(UserError, match="input_rate must be a whole number from 1 on"):
        train(tmp_path, "model=bandwidth_extension", "input_rate=0")


def test_paths_are_one_or_a_list() -> None:
    assert paths_of(None) == []
    assert paths_of("outputs/a b") == ["outputs/a b"]
    assert paths_of("[one, two/x]") == ["one", "two/x"]
    assert paths_of(["a, b", "c"]) == ["a, b", "c"]
