"""Contract tests of conf/: every yaml, by glob, so that a new one tests itself.

Each is composed as a command line would (`train.py model=…`, `sample.py sampler=…`), then built and
run: tiny, or at its published size by tensors that have shapes and no memory.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch._subclasses.fake_tensor import FakeTensorMode

from glissando.build import (
    Denoising,
    bare_network,
    denoising,
    plain,
    rebuilt,
    representation,
    untrained,
)
from glissando.build.vocoders import spectrum_recipe
from glissando.checkpoints.instantiate import instantiate
from glissando.cli.check import check
from glissando.cli.conf import config_dir, pretrained_dir
from glissando.condition import Condition, Entry, Local, Vector
from glissando.diffusion.oracle import GaussianMixture
from glissando.diffusion.path import Path as NoisePath
from glissando.ditto.base import Target
from glissando.errors import UserError
from glissando.generation import Generator
from glissando.representations.autoencoder import Autoencoder
from glissando.samplers.base import Sampler
from glissando.samplers.noise import ClipNoise
from glissando.training.trainer import trainer_of
from tiny import DIT, VAE, Train, numbers

CONF = config_dir()
ROOTS = sorted(path.stem for path in CONF.glob("*.yaml"))
TESTED: set[str] = set()
TINY = ["name=test", *DIT]
CLIPS = [{"caption": "a slow flute air", "seconds_start": 1.0, "seconds_total": 3.0},
         {"caption": "", "seconds_start": 0.0, "seconds_total": 6.0}]  # fmt: skip


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def each(group: str) -> pytest.MarkDecorator:
    """A test for each yaml of a group, as its argument ``option``."""
    TESTED.add(group)
    return pytest.mark.parametrize("option", options(group))


@cache  # composing is most of this file's time
def composed(root: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(root, list(overrides))


def mapping(node: DictConfig) -> dict[str, Any]:
    found = plain(node)
    assert isinstance(found, dict)
    return found


class Plain(torch.nn.Module):
    """What `denoising` wants to know of a representation."""

    freqs, hop, sample_rate, audio_channels, lead = 1, 512, 22050, 1, 0.0

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.channels = channels


def build(*overrides: str) -> Denoising:
    """The learned half of ``train.py model=dit_tiny …``, captions cached in memory alone."""
    cfg = composed("train", *TINY, *overrides).copy()
    if "text" in cfg.conditioner:
        cfg.conditioner.text.cache = None
    torch.manual_seed(0)
    return denoising(mapping(cfg), Plain())  # type: ignore[arg-type]


def loss_of(parts: Denoising, copies: int) -> torch.Tensor:
    """The loss (2 copies,) of one training step."""
    clips = CLIPS * copies
    x_0, eps = torch.randn(2, len(clips), 4, Plain.freqs, 12)
    length = torch.full((len(clips),), 12)
    t = parts.levels.draw(parts.denoiser.path, len(clips), length=length)
    return parts.denoiser.loss(x_0, eps, t, parts.conditioners(clips))


def trains(parts: Denoising, copies: int = 1) -> None:
    """One finite step in which the loss reaches the network."""
    loss = loss_of(parts, copies)
    assert loss.shape == (2 * copies,)
    assert loss.isfinite().all()
    loss.sum().backward()
    gradients = [p.grad for p in parts.denoiser.parameters() if p.grad is not None]
    assert any(gradient.any() for gradient in gradients)
    assert all(gradient.isfinite().all() for gradient in gradients)


# ---- the root configs ----------------------------------------------------------------------


@pytest.mark.parametrize("root", ROOTS)
def test_a_root_config_composes(root: str) -> None:
    assert set(composed(root)) - {"hydra"}


@pytest.mark.parametrize("root", ROOTS)
def test_a_misspelt_key_of_a_root_config_is_refused_with_the_nearest(root: str) -> None:
    keys = [key for key in leaves(composed(root)) if len(key) > 3 and key[-2] != key[-1]]
    for key in {keys[0], keys[len(keys) // 2], keys[-1]}:
        wrong = key[:-2] + key[-1] + key[-2]  # two letters swapped
        with pytest.raises(UserError, match=rf"unknown key {wrong}; did you mean [\w.]*{key}\?"):
            check([f"{wrong}=3"], root, CONF)


def leaves(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in node:
        inner = OmegaConf.to_container(node)[key]  # type: ignore[index]
        if isinstance(inner, dict) and inner:
            yield from leaves(node[key], f"{prefix}{key}.")
        elif not str(key).startswith("_"):
            yield f"{prefix}{key}"


# ---- models ---------------------------------------------------------------------------------


@each("model")
def test_a_model_at_its_published_size(option: str) -> None:
    cfg = composed("train", "name=test", "text_encoder=hash", f"model={option}")
    config = mapping(cfg)
    if "text" in config["conditioner"]:
        config["conditioner"]["text"]["cache"] = None
    empty, run = stages()[cfg.stage]
    with empty, torch.no_grad():
        run(config)


# What build.py supplies.
DERIVED = {
    "audio_channels", "bottleneck", "channels", "freqs", "map_channels", "mechanisms",
    "sample_rate", "sizes", "stft",
}  # fmt: skip


@each("model")
def test_a_model_and_its_losses_show_every_argument(option: str) -> None:
    config = mapping(composed("train", "name=test", f"model={option}"))
    for name in {"model", "reconstruction", "discriminator"} & set(config):
        arguments = inspect.signature(get_object(config[name]["_target_"])).parameters
        assert set(arguments) - DERIVED <= set(config[name]), name


def an_autoencoder(config: dict[str, Any]) -> None:
    data = {"sample_rate": 44100, "channels": 2}
    model = untrained(OmegaConf.create({**config, "data": data}))
    z = model.encode(torch.randn(1, 2, 30000))
    assert z.shape == (1, model.channels, model.freqs, model.frames(30000))
    out = model.decode(z, 30000)
    assert out.shape == (1, 2, 30000)
    for logits, features in instantiate(config["discriminator"], audio_channels=2)(out):
        assert logits.shape[:2] == (1, 1)
        assert features


def a_generator(config: dict[str, Any]) -> None:
    spectrum = spectrum_recipe(config["representation"], config["input_rate"])
    made = instantiate({**config["generator"], "spectrum": spectrum, "network": config["model"]})
    channels = config["data"]["channels"]
    out = made(made.degrade(torch.randn(1, channels, 9000)), 9000)
    assert out.shape == (1, channels, 9000)
    for logits, features in instantiate(config["discriminator"], audio_channels=channels)(out):
        assert len(logits) == 1
        assert features


def a_denoiser(config: dict[str, Any]) -> None:
    network, sizes = bare_network(config, Plain(64))  # type: ignore[arg-type]
    z = torch.randn(2, 64, 1, 13)  # a patch does not divide it
    known: dict[str, Entry] = {
        name: Vector(torch.randn(2, sizes[name].dim))
        for name in sizes
        if sizes[name].kind is Vector
    }
    assert network(z, torch.rand(2), Condition(known)).shape == z.shape


def stages() -> dict[str, tuple[Any, Callable[[dict[str, Any]], None]]]:
    """By a model's stage: tensors without memory, and what to do with them.

    Autocast, which autoencoders use, knows no meta device.
    """
    return {
        "glissando.build.autoencoder": (FakeTensorMode(), an_autoencoder),
        "glissando.build.generator": (FakeTensorMode(), a_generator),
        "glissando.build.diffusion": (torch.device("meta"), a_denoiser),
    }


@pytest.mark.parametrize("option", ["mel", "spectrogram", "waveform", "complex_stft"])
def test_an_autoencoder_of_what_has_none_is_refused(option: str) -> None:
    cfg = composed("train", "name=test", "model=vae", f"representation={option}")
    with pytest.raises(UserError, match="or set representation=latent_mel"):
        untrained(cfg)


@each("bottleneck")
@pytest.mark.parametrize("model", ["vae", "vae_oobleck", "vae representation=latent_mel"])
def test_a_bottleneck_in_every_kind_of_network(option: str, model: str) -> None:
    """A training step by the losses that the stage weighs; the latent is the same every time."""
    cfg = composed("train", "name=test", f"bottleneck={option}", *f"model={model}".split())
    torch.manual_seed(0)
    made = untrained(cfg)
    x = torch.randn(2, 1, made.inner.freqs, 1100 if made.inner.freqs == 1 else 9)
    coded = made.network.encode_map(x)
    assert coded.mean.shape == (2, made.channels, *made.network.size(*x.shape[2:]))
    torch.testing.assert_close(made.network.encode_map(x).mean, coded.mean, atol=0, rtol=0)
    loss = (made.network.decode_map(coded.sample(), *x.shape[2:]) - x).square().mean()
    for name, penalty in coded.penalties().items():
        loss = loss + cfg.vae[name] * penalty
    loss.backward()
    for parameter in made.network.parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()
    books = made.network.bottleneck.books
    if coded.codes is None:
        assert not books
    else:
        assert coded.codes.shape == (2, len(books), *coded.mean.shape[2:])
        assert (coded.codes >= 0).all()
        assert (coded.codes.amax((0, 2, 3)) < torch.tensor(books)).all()


@each("stage")
def test_a_stage_belongs_to_a_model(option: str) -> None:
    stage = OmegaConf.load(CONF / "stage" / f"{option}.yaml").stage
    assert stage in stages()
    assert stage in {composed("train", f"model={model}").stage for model in options("model")}


# ---- conditions -----------------------------------------------------------------------------


@each("conditioning")
def test_a_conditioning_alone(option: str) -> None:
    trains(build(f"conditioning={option}", *conditioners_for(option)))


def conditioners_for(option: str) -> list[str]:
    """What makes every entry that a preset reads, and no other."""
    reads = [
        plain(spec)["reads"]
        for spec in OmegaConf.load(CONF / f"conditioning/{option}.yaml").values()
    ]
    named = {entry for entries in reads for entry in entries}
    timing = [name for name in ("seconds_start", "seconds_total") if name not in named]
    overrides = [f"~conditioner.{name}" for name in timing]
    for (entry,) in (entries for entries in reads if len(entries) == 1 and entries != ["noise"]):
        if entry != "text":
            spec = "_target_:glissando.conditioners.TextConditioner,encoder:${text_encoder}"
            overrides.append(f"+conditioner.{entry}={{{spec},name:{entry}}}")
    return overrides


def test_the_default_conditioning_and_a_list() -> None:
    trains(build())
    trains(build("conditioning=[adaln_zero,cross_attention,prefix]"))


def test_no_conditioning_at_all_is_refused() -> None:
    with pytest.raises(UserError, match=r"noise level reaches nobody.*conditioning=adaln_zero"):
        build("conditioning=[]")


def test_a_mechanism_may_read_the_shared_noise_level_alone() -> None:
    trains(build("conditioner=none", "conditioning=[adaln_zero,cross_attention]",
                 "model.share_noise=true"))  # fmt: skip


@pytest.mark.parametrize(
    ("conditioning", "made"),
    [("adaln_zero", {"text_pooled"}), ("cross_attention", {"text"}),
     ("[film,prefix]", {"text", "text_pooled"})],
)  # fmt: skip
def test_only_the_half_of_the_text_that_somebody_reads_is_made(
    conditioning: str, made: set[str]
) -> None:
    parts = build(f"conditioning={conditioning}", "conditioner=text")
    halves = parts.conditioners.parts["text"].cache.halves
    assert set(parts.conditioners(CLIPS)) == set(parts.conditioners.sizes) == made
    assert set(halves) == {{"text": "tokens", "text_pooled": "pooled"}[name] for name in made}


def test_guidance_of_stable_audio_pushes_the_text_and_not_the_timing() -> None:
    parts = build("conditioning=stable_audio")
    condition = parts.conditioners(CLIPS)
    null = parts.conditioners.null(2, like=condition)
    noise = torch.rand(2)
    with_text, without = (parts.denoiser.network.read(noise, each) for each in (condition, null))
    assert torch.equal(with_text["pooled_prefix"].value, without["pooled_prefix"].value)
    a, b = (each["cross_attention"].value for each in (with_text, without))
    assert torch.equal(a[:, -2:], b[:, -2:])  # seconds_start, seconds_total
    assert not torch.allclose(a[0, 0], b[0, 0])


def test_any_number_category_and_curve_can_be_a_condition_from_the_command_line() -> None:
    room = "glissando.conditioners"
    parts = build(
        f"+conditioner.bpm={{_target_:{room}.NumberConditioner,name:bpm,min:40,max:240}}",
        f"+conditioner.key={{_target_:{room}.CategoryConditioner,name:key,values:[C,D minor]}}",
        f"+conditioner.control={{_target_:{room}.LocalConditioner,name:control,dim:2,rate:10}}",
        "conditioning=[adaln_zero,channel_concat]",
        "conditioning.adaln_zero.reads=[noise,text_pooled,seconds_start,seconds_total,bpm,key]",
    )
    more = {"bpm": 90, "key": "D minor", "control": torch.randn(2, 5)}
    clips = [{**CLIPS[0], **more}, CLIPS[1]]
    known = parts.conditioners(clips, frames=12)
    assert set(known) >= {"bpm", "key", "control", "text", "text_pooled"}
    loss = parts.denoiser.loss(*torch.randn(2, 2, 4, 1, 12), torch.rand(2), known)
    loss.sum().backward()
    trains(parts)


@each("conditioner")
def test_a_conditioner_with_the_mechanisms_that_read_it(option: str) -> None:
    """The default ones, and channels for what is aligned with time."""
    try:
        parts = build(f"conditioner={option}")
    except UserError as error:
        assert str(error).startswith("nobody reads ['")  # noqa: PT017
        parts = build(f"conditioner={option}", "conditioning=[adaln_zero,channel_concat]")
        assert any(entry.kind is Local for entry in parts.conditioners.sizes.values())
    trains(parts)


@each("text_encoder")
def test_a_text_encoder_is_chosen_by_its_yaml(option: str) -> None:
    """That it encodes as it should is tests/text_encoders' matter; here nothing is downloaded."""
    encoder = instantiate(composed("train", f"text_encoder={option}").text_encoder)
    assert encoder.limit > 0
    assert not any(isinstance(part, torch.nn.Module) for part in vars(encoder).values())
    if getattr(encoder, "local_only", True):
        text = encoder(["a slow flute air", "piano"])
        assert text.tokens.shape == (*text.mask.shape, encoder.tokens_dim)
        assert text.pooled.shape == (2, encoder.pooled_dim)
        assert text.tokens.isfinite().all()


# ---- objectives -----------------------------------------------------------------------------


@each("objective")
def test_an_objective(option: str) -> None:
    parts = build(f"objective={option}")
    assert parts.notes == []  # what ships warns of nothing
    trains(parts, copies=8)  # so many levels of noise


def parts_of_objectives() -> list[str]:
    parts = sorted(folder.name for folder in (CONF / "objective").iterdir() if folder.is_dir())
    TESTED.update(f"objective/{part}" for part in parts)
    return [f"{part}={name}" for part in parts for name in options(f"objective/{part}")]


@pytest.mark.parametrize("part", parts_of_objectives())
def test_any_part_of_an_objective_can_be_exchanged(part: str) -> None:
    objective = composed("train", *TINY, f"objective/{part}").objective
    name, _, option = part.partition("=")
    own = OmegaConf.load(CONF / "objective" / name / f"{option}.yaml")
    assert objective[name]._target_ == own._target_
    trains(build(f"objective/{part}"), copies=8)


# ---- sampling -------------------------------------------------------------------------------


def sampler_of(*overrides: str) -> Sampler:
    sampler = instantiate(composed("sample", *overrides).sampler)
    assert isinstance(sampler, Sampler)
    return sampler


def path_of(*overrides: str) -> NoisePath:
    return instantiate(composed("train", *overrides).objective).path


def samples(sampler: Sampler, path: NoisePath) -> torch.Tensor:
    """From noise to samples of a Gaussian around 0.5; the sampler says how many calls."""
    shape = (2, 1, 3)
    oracle = GaussianMixture(
        path, torch.ones(1, dtype=torch.float64), torch.full((1, *shape), 0.5, dtype=torch.float64),
        torch.full((1, *shape), 0.3, dtype=torch.float64),
    )  # fmt: skip
    fresh = ClipNoise([0, 1], shape, dtype=torch.float64)
    out = sampler(oracle, path, fresh(), fresh)
    assert out.shape == (2, *shape)
    assert out.isfinite().all()
    assert sampler.evaluations >= min(sampler.steps, 4)
    return out


@each("sampler")
def test_a_sampler_on_its_own_spacing_and_on_every_other(option: str) -> None:
    own = mapping(composed("sample", f"sampler={option}").sampler)
    others = [mapping(composed("sample", f"sampler/spacing={spacing}").sampler)["spacing"]
              for spacing in options("sampler/spacing")]  # fmt: skip
    assert own["spacing"] in others
    refused = []
    for spacing in others:
        sampler = instantiate({**own, "spacing": spacing})
        sampler.steps = min(sampler.steps, 6)
        try:
            out = samples(sampler, path_of())
            assert (out - 0.5).abs().max() < 5  # near the data, whose spread is 0.3
        except UserError as error:  # solvers by other libraries cannot start at infinity
            refused.append((spacing, str(error)))
    assert own["spacing"] not in [spacing for spacing, _ in refused]
    assert all("use sampler/spacing=" in line for _, line in refused)


@each("sampler")
def test_a_sampler_on_every_path(option: str) -> None:
    sampler = sampler_of(f"sampler={option}")
    steps, sampler.steps = sampler.steps, min(sampler.steps, 10)
    for name in options("objective/path"):
        path = path_of(f"objective/path={name}")
        samples(sampler, path)
        assert len(sampler.spacing(path, steps)) == steps + 1  # its own number, as it comes


@each("sampler/spacing")
def test_a_spacing_runs_from_noise_towards_data_on_every_path(option: str) -> None:
    sampler = sampler_of(f"sampler/spacing={option}", "sampler.steps=7")
    assert sampler.steps == 7
    for path in options("objective/path"):
        times = sampler.spacing(path_of(f"objective/path={path}"), sampler.steps)
        assert times.shape == (8,)
        assert (times.diff() < 0).all()
        assert times[-1] >= 0


@cache
def generator(*overrides: str) -> Generator:
    parts = build(*overrides)
    network = rebuilt({
        "_target_": "glissando.representations.autoencoder.Autoencoder",
        "network": {"_target_": "glissando.networks.spectral.SpectralAutoencoder",
                    "audio_channels": 1, "channels": 4, "hop": 64, "encoder_width": 8,
                    "encoder_depth": 1, "decoder_width": 8, "decoder_depth": 1},
        "sample_rate": 8000,
    })  # fmt: skip
    assert isinstance(network, Autoencoder)
    torch.nn.init.zeros_(network.latent_mean)
    torch.nn.init.ones_(network.latent_std)
    return Generator(network, parts.conditioners, parts.denoiser, window=0.3)


@each("guidance")
@pytest.mark.parametrize("objective", ["rectified_flow", "v"])
def test_a_guidance_plays(option: str, objective: str) -> None:
    cfg = composed("sample", f"guidance={option}").guidance.copy()
    model = generator("conditioning=[adaln_zero,cross_attention]", f"objective={objective}")
    if OmegaConf.is_missing(cfg, "ckpt"):
        cfg.ckpt = "another"
        model.companions["another"] = generator("conditioning=adaln_zero", f"objective={objective}")
    guidance = instantiate(cfg)
    clips = model.generate(["a flute", ""], 0.3, 0, sampler_of("sampler.steps=3"), guidance)
    assert [clip.wave.shape for clip in clips] == [(1, 2400)] * 2
    assert all(clip.wave.isfinite().all() for clip in clips)


@each("ditto")
def test_a_target_is_sought(option: str, songs: Path) -> None:
    """By a recording, which every target takes, through the sampler's own gradient."""
    settings = mapping(composed("sample", f"ditto={option}").ditto)
    if option == "none":
        assert settings == {}
        return
    arguments = inspect.signature(get_object(settings["_target_"])).parameters
    assert set(settings) == {"_target_", *arguments}
    with pytest.raises(UserError, match=r"ditto\.reference"):
        instantiate(settings)
    settings |= {"reference": str(songs / "tone00.wav"), "iterations": 3, "tolerance": 0}
    target = instantiate(settings | ({"keep": "0-0.2"} if "keep" in settings else {})
                         | ({"every": 0.05} if "every" in settings else {}))  # fmt: skip
    assert isinstance(target, Target)
    model = generator("conditioning=adaln_zero")
    sampler = sampler_of("sampler.steps=2")
    plain, found = (
        model.generate(["a", "b"], 0.3, 0, sampler, ditto=each)[1] for each in (None, target)
    )
    search = json.loads(json.dumps(found.facts["search"]))
    assert len(search["losses"]) == 3
    assert search["loss"] == pytest.approx(min(search["losses"]), rel=1e-4)
    assert target.loss == pytest.approx(min(search["losses"]))
    assert min(search["losses"][1:]) < search["losses"][0]
    assert not torch.equal(plain.wave, found.wave)
    assert "search" not in plain.facts


# ---- data and representations ---------------------------------------------------------------


@each("data")
def test_a_source_keeps_its_settings(option: str, songs: Path) -> None:
    cfg = composed("train", f"data={option}").data.copy()
    if OmegaConf.is_missing(cfg, "root"):
        cfg.root = str(songs)
    source = instantiate(cfg)
    assert source.name == option
    settings = source.settings()
    assert json.loads(json.dumps(settings)) == settings  # a fingerprint is made of it
    for key in ("sample_rate", "channels", "seed"):
        assert settings[key] == cfg[key], key


@each("representation")
def test_a_representation_as_it_ships(option: str) -> None:
    cfg = composed("train", f"representation={option}")
    learned = cfg.representation.get("autoencoder")
    if learned and not (pretrained_dir() / learned).is_dir():
        with pytest.raises(UserError, match=rf"train one: python train\.py .*{option}"):
            representation(cfg)
        return
    model = representation(cfg).eval()
    length = model.sample_rate // 2
    wave = 0.3 * torch.sin(torch.arange(length) / 8).expand(1, model.audio_channels, -1)
    with torch.no_grad():
        z = model.encode(wave)
        assert z.shape == (1, model.channels, model.freqs, model.frames(length))
        if not model.measured:  # what needs no training is measured on the data of a run
            model.measure(z.sum((0, 2, 3)), z.square().sum((0, 2, 3)), z[:, 0].numel())
        torch.testing.assert_close(model.denormalize(model.normalize(z)), z, atol=1e-4, rtol=1e-4)
        again = model.decode(z, length)
    if (
        learned and model.freqs > 1
    ):  # a small one, of maps of music: how well, of music, its card says
        assert again.isfinite().all()
        assert again.std() > 0.01
        return
    spectrum, before = (
        torch.stft(each[0], 1024, window=torch.hann_window(1024), return_complex=True).abs()
        for each in (again, wave)
    )
    # A sine comes back; in its phase too where that is kept.
    assert (spectrum - before).norm() < 0.3 * before.norm()


# ---- the run --------------------------------------------------------------------------------


@each("optimizer")
def test_an_optimizer_descends(option: str) -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    cfg = composed("train", f"optimizer={option}").optimizer
    optimizer = instantiate(cfg)([weight])
    assert optimizer.param_groups[0]["lr"] == cfg.lr
    before = weight.square().sum().item()
    for _ in range(3):
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        optimizer.step()
    assert weight.square().sum().item() < before


@each("schedule")
def test_a_schedule_stays_between_zero_and_one(option: str) -> None:
    schedule = instantiate(composed("train", f"schedule={option}").schedule)
    factors = [schedule(step) for step in [*range(300), 1000, 4000, 10**6]]
    assert all(0 <= factor <= 1 for factor in factors)
    assert max(factors) > 0.9


@each("trainer")
def test_a_trainer_starts_where_its_machine_is(option: str) -> None:
    cfg = composed("train", f"trainer={option}")
    module: Any = torch.nn.Module()
    there = cfg.trainer.accelerator != "gpu" or torch.cuda.is_available()
    with nullcontext() if there else pytest.raises(UserError, match="No supported gpu"):
        trainer = trainer_of(cfg, module, [], devices=1, enable_checkpointing=False)
        assert trainer.max_steps == cfg.trainer.max_steps


def _with_hydra(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=True)


@each("launcher")
def test_a_launcher_launches(option: str) -> None:
    """It takes what is set; tests/slurm and tests/cli/test_sweep.py run them."""
    cfg = _with_hydra(f"launcher={option}", "trainer.devices=2").hydra.launcher
    launcher = get_object(cfg._target_)
    inspect.signature(launcher).bind(**dict.fromkeys(set(cfg) - {"_target_"}))


@each("logger")
def test_a_logger_starts(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    make = instantiate(composed("train", f"logger={option}").logger)
    inspect.signature(make).bind(tmp_path, "test", {})
    from glissando.training.loggers import close

    loggers = make(tmp_path, "test", {"seed": 0})
    close(loggers)
    assert all(isinstance(logger, Logger) for logger in loggers)


@each("callbacks")
def test_callbacks_of_a_run(option: str, train: Train, vae: Path, tmp_path: Path) -> None:
    train(tmp_path, *DIT, f"representation.autoencoder={vae}", f"callbacks={option}",
          "trainer.max_steps=1")  # fmt: skip
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


@each("experiment")
def test_an_experiment_trains(option: str, train: Train, vae: Path, tmp_path: Path) -> None:
    if f"{option.removesuffix('_tiny')}_tiny" in options("experiment"):
        pytest.skip("a system, with the size of its own: tests/test_systems.py")
    stage = composed("train", f"experiment={option}").stage
    tiny = {
        "glissando.build.autoencoder": VAE,
        "glissando.build.diffusion": [*DIT, f"representation.autoencoder={vae}"],
    }[stage]
    overrides = [each for each in tiny if not each.startswith("model=")]  # its own family
    train(tmp_path, *overrides, f"experiment={option}", "trainer.max_steps=3")
    assert len(numbers(tmp_path)) == 3


def test_every_group_is_tested() -> None:
    folders = {path.parent.relative_to(CONF).as_posix() for path in CONF.glob("*/**/*.yaml")}
    assert folders == TESTED
