from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from glissando.checkpoints.files import read, write
from glissando.errors import UserError
from glissando.generation import Generated, Generator, load
from glissando.guidance import ClassifierFree
from glissando.samplers.euler import Euler
from tiny import DIT, VAE, Train

PROMPTS = ["a tone at 110 Hz", "a flute", ""]
SAMPLER = Euler(steps=3)


@pytest.fixture(scope="session")
def dit(train: Train, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a diffusion model, moved away from all that made it."""
    folder = tmp_path_factory.mktemp("dit")
    copy = folder / "autoencoder"
    shutil.copytree(vae, copy)
    train(
        folder / "run", *DIT, f"representation.autoencoder={copy}", "trainer.max_steps=3",
        "optimizer.lr=1e-2", "schedule.warmup=0", "ema=null",
    )  # fmt: skip
    path = folder / "alone.ckpt"
    (folder / "run" / "checkpoints" / "last.ckpt").rename(path)
    shutil.rmtree(folder / "run")
    shutil.rmtree(copy)
    return path


@pytest.fixture
def model(dit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator:
    """It needs the file and nothing else: the working directory is empty."""
    monkeypatch.chdir(tmp_path)
    return load(str(dit), device="cpu")


def same(one: Generated, two: Generated) -> bool:
    return torch.equal(one.wave, two.wave)


def test_same_seed_same_samples_whatever_surrounds_them(model: Generator) -> None:
    three = model.generate(PROMPTS, 1.5, seed=5, sampler=SAMPLER)
    assert [clip.facts["seed"] for clip in three] == [5, 6, 7]
    for row, clip in enumerate(three):
        for batch_size in (1, 8):
            alone = model.generate(
                [PROMPTS[row]], 1.5, seed=5 + row, sampler=SAMPLER, batch_size=batch_size
            )
            assert same(clip, alone[0])
    assert not any(same(three[a], three[b]) for a, b in [(0, 1), (0, 2), (1, 2)])


def test_a_batch_gives_what_single_clips_give(model: Generator) -> None:
    """As on a GPU, where clips share a batch: equal but for the rounding of other kernels."""
    rows = model._batch(
        PROMPTS, [5, 6, 7], 1.5, SAMPLER, ClassifierFree(), None, {}, None, 1.0, lambda *_: None
    )
    for row, clip in zip(rows, model.generate(PROMPTS, 1.5, 5, SAMPLER), strict=True):
        torch.testing.assert_close(row, clip.wave, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("seconds", [0.1, 0.0001, 1.5, 2.7])
def test_length_is_as_asked(model: Generator, seconds: float) -> None:
    (clip,) = model.generate(["x"], seconds, sampler=SAMPLER)
    assert clip.wave.shape == (1, max(1, round(seconds * 8000)))
    assert clip.wave.dtype == torch.float32
    assert clip.wave.isfinite().all()


def test_a_short_clip_is_the_beginning_of_a_long_one(model: Generator) -> None:
    assert model.window == pytest.approx(1.5)
    short, long = (model.generate(["x"], s, sampler=SAMPLER)[0].wave for s in (0.3, 1.5))
    torch.testing.assert_close(short, long[..., : short.shape[-1]], atol=0, rtol=0)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_no_length_at_all(model: Generator, seconds: float) -> None:
    with pytest.raises(UserError, match="seconds"):
        model.generate(["x"], seconds, sampler=SAMPLER)


def test_prompt_negative_seed_and_guidance_matter(model: Generator) -> None:
    plain = model.generate(["a flute"], 1.5, sampler=SAMPLER)[0]
    for other in (
        model.generate(["an organ"], 1.5, sampler=SAMPLER),
        model.generate(["a flute"], 1.5, sampler=SAMPLER, negative="an organ"),
        model.generate(["a flute"], 1.5, sampler=SAMPLER, seed=1),
        model.generate(["a flute"], 1.5, sampler=SAMPLER, guidance=ClassifierFree(1.0)),
    ):
        assert not same(plain, other[0])
    blank = model.generate(["a flute"], 1.5, sampler=SAMPLER, negative="  ")[0]
    assert same(plain, blank)  # a blank caption is the empty one


def test_starting_from_audio(model: Generator) -> None:
    init = 0.3 * torch.sin(torch.arange(12000) / 8).expand(1, -1)
    near = model.generate(["x"], 1.5, sampler=SAMPLER, init=init, strength=0.01)[0].wave
    far = model.generate(["x"], 1.5, sampler=SAMPLER, init=init, strength=1.0)[0].wave
    assert (near - init).norm() < 0.6 * init.norm() < (far - init).norm()
    short = model.generate(["x"], 1.5, sampler=SAMPLER, init=init[:, :500], strength=0.5)[0].wave
    assert short.shape == (1, 12000)


def test_progress_counts_all_clips(model: Generator) -> None:
    seen: list[tuple[int, int]] = []
    model.generate(
        ["a", "b"], 0.5, sampler=SAMPLER, progress=lambda now, of: seen.append((now, of))
    )
    assert seen[-1] == (6, 6)
    assert [now for now, _ in seen] == sorted(now for now, _ in seen)


def test_timing_stays_within_what_was_seen(model: Generator) -> None:
    assert model._timing(100.0) == {"seconds_start": 0.0, "seconds_total": pytest.approx(1.5)}


def test_stereo(train: Train, tmp_path: Path) -> None:
    shards = f"prepare.shards={tmp_path / 'shards'}"
    train(tmp_path / "vae", *VAE, "data.channels=2", shards, "trainer.max_steps=2")
    train(
        tmp_path / "dit", *DIT, "data.channels=2", shards, "trainer.max_steps=1",
        f"representation.autoencoder={tmp_path / 'vae'}",
    )  # fmt: skip
    (clip,) = load(str(tmp_path / "dit"), "cpu").generate(["x"], 1.0, sampler=SAMPLER)
    assert clip.wave.shape == (2, 8000)


def test_a_shipped_copy_sounds_alike(model: Generator, dit: Path, tmp_path: Path) -> None:
    write(tmp_path / "shipped", read(dit))
    (copy,) = load(str(tmp_path / "shipped"), "cpu").generate(["x"], 1.5, sampler=SAMPLER)
    (original,) = model.generate(["x"], 1.5, sampler=SAMPLER)
    error = (copy.wave - original.wave).norm() / original.wave.norm()
    assert error < 0.02  # float16 weights


def test_an_autoencoder_makes_no_music(vae: Path) -> None:
    with pytest.raises(UserError, match="autoencoder checkpoint, which makes no music"):
        load(str(vae))


def test_unknown_checkpoint() -> None:
    with pytest.raises(UserError, match=r"ckpt=/no/where does not exist"):
        load("/no/where")


def test_an_evil_config_in_a_checkpoint_is_refused(dit: Path, tmp_path: Path) -> None:
    stored = torch.load(dit, weights_only=True)
    mark = tmp_path / "ran"
    for place in ("representation", "config"):
        changed = {**stored, "glissando": {**stored["glissando"]}}
        evil = {"_target_": "glissando.networks.dit.torch.os.system", "_args_": [f"touch {mark}"]}
        changed["glissando"][place] = (
            evil if place == "representation" else {**changed["glissando"]["config"], "model": evil}
        )
        torch.save(changed, tmp_path / "evil.ckpt")
        with pytest.raises(UserError, match="do not trust"):
            load(str(tmp_path / "evil.ckpt"), "cpu")
    assert not mark.exists()
