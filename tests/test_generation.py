from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

from glissando.checkpoints.files import read, write
from glissando.checkpoints.instantiate import instantiate
from glissando.cli.conf import config_dir
from glissando.conditioners import Conditioners
from glissando.conditioning.base import Tokens
from glissando.conditioning.cross_attention import CrossAttend
from glissando.editing import FADE
from glissando.errors import UserError
from glissando.generation import Generated, Generator, load
from glissando.guidance import ClassifierFree, Guidance, Unguided
from glissando.guidance.apg import APG
from glissando.guidance.autoguidance import Autoguidance
from glissando.samplers.euler import Euler
from tiny import DIT, VAE, Train

PROMPTS = ["a tone at 110 Hz", "a flute", ""]
SAMPLER = Euler(steps=3)
FADED = round(FADE * 8000)
LEARN = ["optimizer.lr=1e-2", "schedule.warmup=0", "ema=null"]


@pytest.fixture(scope="session")
def dit(train: Train, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a diffusion model, moved away from all that made it."""
    folder = tmp_path_factory.mktemp("dit")
    copy = folder / "autoencoder"
    shutil.copytree(vae, copy)
    train(folder / "run", *DIT, *LEARN, f"representation.autoencoder={copy}", "trainer.max_steps=3")
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
        PROMPTS, [5, 6, 7], 12000, SAMPLER, ClassifierFree(), None, {}, None, 1.0, None,
        lambda *_: None,
    )  # fmt: skip
    for row, clip in zip(rows, model.generate(PROMPTS, 1.5, 5, SAMPLER), strict=True):
        torch.testing.assert_close(row, clip.wave, atol=1e-4, rtol=1e-3)


def test_keys_and_values_are_made_once_a_clip(
    train: Train, vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many steps: the noise level is read by AdaLN, so the text's tokens stay the same."""
    train(
        tmp_path, *DIT, "model.depth=2", "conditioning=[adaln_zero,cross_attention]",
        f"representation.autoencoder={vae}", "trainer.max_steps=1",
    )  # fmt: skip
    model = load(str(tmp_path / "checkpoints" / "last.ckpt"), device="cpu")
    made, real = [], CrossAttend.keys_values

    def counted(self: CrossAttend, tokens: Tokens) -> tuple[Tensor, Tensor]:
        made.append(self)
        return real(self, tokens)

    monkeypatch.setattr(CrossAttend, "keys_values", counted)
    for steps in (3, 9):
        made.clear()
        model.generate(PROMPTS[:1], seconds=0.25, sampler=Euler(steps=steps))
        assert len(made) == len(set(made)) == 2  # one a block


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


def test_an_attribute_that_nothing_reads_is_refused(model: Generator) -> None:
    line = (
        r"attributes \['bpm'\] have no effect on this model: it reads \['caption', 'seconds_start'"
    )
    with pytest.raises(UserError, match=line):
        model.generate(["x"], 1.5, sampler=SAMPLER, attributes={"bpm": 90, "seconds_total": 1.2})


def test_starting_from_audio(model: Generator) -> None:
    init = 0.3 * torch.sin(torch.arange(12000) / 8).expand(1, -1)
    near = model.generate(["x"], 1.5, sampler=SAMPLER, init=init, strength=0.01)[0].wave
    far = model.generate(["x"], 1.5, sampler=SAMPLER, init=init, strength=1.0)[0].wave
    assert (near - init).norm() < 0.6 * init.norm() < (far - init).norm()
    (same_again,) = model.generate(["x"], 1.5, sampler=SAMPLER, init=init, strength=0)
    assert torch.equal(same_again.wave, init)
    assert same_again.facts["evaluations"] == 0
    short = model.generate(["x"], 1.5, sampler=SAMPLER, init=init[:, :500], strength=0.5)[0].wave
    assert short.shape == (1, 12000)


# ---- a part made anew ------------------------------------------------------------------------


def recording(length: int = 12000) -> Tensor:
    """A decaying chord with a little noise, (1, length) at 8 kHz."""
    time = torch.arange(length) / 8000
    wave = sum(0.2 * torch.sin(6.2832 * pitch * time) for pitch in (220, 277.2, 329.6))
    noise = 0.01 * torch.randn(length, generator=torch.Generator().manual_seed(1))
    return (wave * torch.exp(-time) + noise)[None]


def untouched(length: int, *spans: tuple[float, float]) -> Tensor:
    """(length,) bool, True where no span and no fade reaches."""
    at = torch.arange(length) / 8000
    far = torch.ones(length, dtype=torch.bool)
    for begin, end in spans:
        far &= (at < begin - FADE) | (at >= end + FADE)
    return far


def each_of(*groups: str) -> list[str]:
    return [f"{group}={path.stem}" for group in groups
            for path in sorted((config_dir() / group).glob("*.yaml"))]  # fmt: skip


@pytest.mark.parametrize("choice", each_of("sampler", "guidance"))
def test_every_sampler_and_guidance_plays_and_edits(
    model: Generator, dit: Path, choice: str
) -> None:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        cfg = compose("sample", [choice])
    if "steps" in cfg.sampler:
        cfg.sampler.steps = 4
    if OmegaConf.is_missing(cfg.guidance, "ckpt"):
        cfg.guidance.ckpt = str(dit)
    how = {"sampler": instantiate(cfg.sampler), "guidance": instantiate(cfg.guidance)}
    (free,) = model.generate(["a flute"], 1.0, **how)
    assert free.wave.shape == (1, 8000)
    assert free.wave.isfinite().all()
    sound, span = recording(), (0.6, 0.9)
    (clip,) = model.generate(["a flute"], init=sound, make=[span], **how)
    assert clip.wave.shape == sound.shape
    far = untouched(12000, span)
    assert torch.equal(clip.wave[:, far], sound[:, far])
    inside = slice(4800, 7200)
    assert (clip.wave - sound)[:, inside].abs().max() > 0.01
    steepest = sound.diff().abs().max().item() + clip.wave[:, inside].diff().abs().max().item()
    assert clip.wave.diff().abs().max() <= steepest


def test_a_part_is_made_by_its_seed_and_prompt_and_from_its_surroundings(model: Generator) -> None:
    def made(wave: Tensor, prompt: str = "a flute", seed: int = 0, strength: float = 1.0) -> Tensor:
        (clip,) = model.generate(
            [prompt],
            None,
            seed,
            SAMPLER,
            init=wave,
            strength=strength,
            make=[(0.3, 0.5), (0.8, 1.1)],
        )
        far = untouched(12000, (0.3, 0.5), (0.8, 1.1))
        assert torch.equal(clip.wave[:, far], wave[:, far])
        return clip.wave[:, ~far]

    sound = recording()
    one = made(sound)
    assert torch.equal(one, made(sound))
    assert not torch.equal(one, made(sound, seed=1))
    assert not torch.equal(one, made(sound, prompt="an organ"))
    louder = sound.clone()
    louder[:, :2000] *= 2
    assert not torch.equal(one, made(louder))
    # Noise to begin with, unless a strength says otherwise: then from what is there.
    old = sound[:, ~untouched(12000, (0.3, 0.5), (0.8, 1.1))]
    near = made(sound, strength=0.05)
    assert (near - old).norm() < 0.5 * (one - old).norm()


def test_what_is_kept_reaches_the_model_and_what_is_made_does_not(
    model: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known latents are those of the sound; the old content of the span has no way in."""
    import glissando.generation

    given = []

    def spy(denoise, path, known, make):
        given.append((known, make))
        return inpaint(denoise, path, known, make)

    inpaint = glissando.generation.inpaint
    monkeypatch.setattr(glissando.generation, "inpaint", spy)
    sound = recording()
    model.generate(["x"], 1.2, 0, SAMPLER, init=sound, make=[(0.3, 0.5)])
    ((known, make),) = given
    form = model.representation
    torch.testing.assert_close(known, form.normalize(form.encode(sound[None])))
    first, last = (2400 - FADED) // form.hop, -(-(4000 + FADED) // form.hop)
    beyond = 9600 // form.hop + 1  # the clip is 1.2 s of the model's window of 1.5
    assert make.nonzero().flatten().tolist() == [
        *range(first, last + 1), *range(beyond, form.frames(12000))
    ]  # fmt: skip


@pytest.mark.parametrize("total", [1.2, 1.5, 2.5])  # less than, as much as, more than the window
def test_going_on_from_the_end_of_a_sound(model: Generator, total: float) -> None:
    sound = recording(8000)
    one, two = model.generate(["a flute"] * 2, total, 3, SAMPLER, init=sound, make=[])
    assert one.wave.shape == (1, round(total * 8000))
    for clip in (one, two):
        assert torch.equal(clip.wave[:, : 8000 - FADED], sound[:, :-FADED])
        assert clip.wave[:, 8000:].square().mean() > 1e-6
        assert clip.facts["seconds"] == total
    assert not torch.equal(one.wave[:, 8000:], two.wave[:, 8000:])


def test_the_length_is_that_of_the_sound_unless_given(model: Generator) -> None:
    sound = recording(9001)
    for make in (None, [(0.2, 0.3)]):
        (clip,) = model.generate(["x"], sampler=SAMPLER, init=sound, make=make)
        assert clip.wave.shape == (1, 9001)
        again = model.generate(["x"], clip.facts["seconds"], 0, SAMPLER, init=sound, make=make)
        assert same(clip, again[0])
    (cut,) = model.generate(["x"], 0.5, sampler=SAMPLER, init=sound, make=[(0.2, 0.3)])
    assert cut.wave.shape == (1, 4000)
    assert torch.equal(cut.wave[:, 3000:], sound[:, 3000:4000])
    with pytest.raises(UserError, match=r"inpaint=0\.2-0\.6 is not inside the clip, 0\.5 s long"):
        model.generate(["x"], 0.5, sampler=SAMPLER, init=sound, make=[(0.2, 0.6)])


# ---- a second model --------------------------------------------------------------------------


def test_autoguidance_by_the_model_itself_is_the_condition_alone(
    model: Generator, dit: Path
) -> None:
    """Through its own conditioners, read from disk: equal to the bit, whatever the scale."""
    plain = model.generate(PROMPTS, 1.5, 0, SAMPLER, Unguided())
    guided = model.generate(PROMPTS, 1.5, 0, SAMPLER, Autoguidance(str(dit), 3.0))
    for one, two in zip(plain, guided, strict=True):
        assert same(one, two)
    assert model.companions[str(dit)].representation is model.representation


@pytest.fixture(scope="session")
def weak(train: Train, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smaller model on the same latents, with a text encoder and sizes of its own."""
    folder = tmp_path_factory.mktemp("weak")
    train(
        folder, *DIT, *LEARN, f"representation.autoencoder={vae}", "trainer.max_steps=1",
        "model.width=16", "text_encoder.dim=8", "objective=v", "objective/path=rectified",
    )  # fmt: skip
    return folder


def test_autoguidance_tells_the_weak_model_in_its_own_words(model: Generator, weak: Path) -> None:
    guidance = Autoguidance(str(weak), 2.0)
    clips = model.generate(PROMPTS, 1.5, 0, SAMPLER, guidance)
    other = model.companions[str(weak)]
    known = [each.condition(["a flute"], 12000, {})["text_pooled"].dim for each in (model, other)]
    assert known == [16, 8]
    # D_weak + 2 (D - D_weak), by hand on one evaluation.
    shape = (1, model.representation.channels, 1, model.representation.frames(12000))
    z, t = torch.randn(shape), torch.full((1,), 0.5)
    x_0 = [
        each.denoiser(z, t, each.condition(["a flute"], 12000, {})).x_0 for each in (model, other)
    ]
    heard = []

    class Listening(Euler):
        def __call__(self, denoise, *rest):
            heard.append(denoise(z, t).x_0)
            return super().__call__(denoise, *rest)

    model.generate(["a flute"], 1.5, 0, Listening(1), guidance)
    torch.testing.assert_close(heard[0], 2 * x_0[0] - x_0[1])
    plain = model.generate(PROMPTS, 1.5, 0, SAMPLER, Unguided())
    assert not any(same(one, two) for one, two in zip(clips, plain, strict=True))


def test_a_weak_model_of_other_latents_is_refused(
    model: Generator, train: Train, vae: Path, dit: Path, tmp_path: Path
) -> None:
    stored = torch.load(dit, weights_only=True)
    name = next(name for name in stored["state_dict"] if name.endswith("analysis.weight"))
    stored["state_dict"][name] = stored["state_dict"][name] * 1.01
    torch.save(stored, tmp_path / "other.ckpt")
    lines = {
        str(tmp_path / "other.ckpt"): "was trained on another autoencoder than .*/alone.ckpt",
        str(vae): "is an autoencoder checkpoint",
        "no/where": "does not exist",
    }
    for ckpt, line in lines.items():
        with pytest.raises(UserError, match=rf"^guidance\.ckpt={ckpt} {line}") as caught:
            model.generate(["x"], 1.5, sampler=SAMPLER, guidance=Autoguidance(ckpt))
        assert "\n" not in str(caught.value)
    assert not model.companions


# ---- negative prompts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "guidance", [Unguided(), ClassifierFree(1.0), APG(1.0), Autoguidance("none")],
    ids=lambda guidance: type(guidance).__name__,
)  # fmt: skip
def test_a_negative_prompt_that_guidance_does_not_use(model: Generator, guidance: Guidance) -> None:
    with pytest.raises(UserError, match=r"^negative_prompt= has no effect on this guidance: use"):
        model.generate(["x"], 1.5, sampler=SAMPLER, guidance=guidance, negative="drums")


def test_a_negative_prompt_for_a_model_that_reads_no_text(model: Generator) -> None:
    model.conditioners = Conditioners()
    with pytest.raises(UserError, match=r"^negative_prompt= has no effect on this model"):
        model.generate(["x"], 1.5, sampler=SAMPLER, negative="drums")


# ---- the rest --------------------------------------------------------------------------------


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
