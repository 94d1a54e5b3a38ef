"""Config -> objects. The only room that sees the whole config; derived sizes flow here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from glissando.checkpoints.files import Stored, locate, read
from glissando.checkpoints.instantiate import check_targets, instantiate
from glissando.cli.conf import pretrained_dir
from glissando.condition import Sizes
from glissando.conditioning.routing import Specs, check_routing, named
from glissando.datasets.shards import Shard, fingerprint, read_dataset, shard_paths
from glissando.errors import UserError
from glissando.representations.autoencoder import Autoencoder
from glissando.representations.base import Representation
from glissando.training.data import Clips


@dataclass
class Run:
    """What a training stage needs: the module, its data, what its checkpoints say.

    Built before any data is there, so that what is wrong is refused at once; ``prepare`` then makes
    the data, which may take long, and tells ``module``, ``data`` and ``facts`` what they want to
    know of it, and ``summary`` says how large the networks are and what a row costs.
    """

    module: Any
    data: Clips
    kind: str
    representation: dict[str, Any]
    prepare: Callable[[], None]
    summary: Callable[[], str]
    warm_start: Callable[[], None] | None = None
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def plain(cfg: Any) -> Any:
    """A config as resolved plain containers, as checkpoints store it."""
    return OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else cfg


def whole_number(cfg: DictConfig, key: str, least: int) -> None:
    """Raises UserError, naming ``key``, if its value is no whole number from ``least`` on."""
    value = OmegaConf.select(cfg, key)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{key} must be a whole number from {least} on, not {value}")


# ---- data ---------------------------------------------------------------------------------


def prepared(cfg: DictConfig, again: bool = False, overwrite: bool = False) -> Path:
    """The prepared dataset that ``data=`` asks for, prepared now if it is not there yet.

    ``again`` looks at every shard, for what is damaged or new in the source; ``overwrite``
    replaces a dataset of other settings.
    """
    from glissando.datasets.dataset_folder import is_prepared
    from glissando.datasets.prepare import prepare

    whole_number(cfg, "prepare.workers", 1)
    whole_number(cfg, "prepare.samples_per_shard", 1)
    source = instantiate(cfg.data)
    root = cfg.prepare.shards
    if root is None:
        mark = fingerprint({"source": source.name, "settings": dict(source.settings())})
        root = f"data/shards/{source.name}-{mark[:8]}"
    if again or overwrite or not is_prepared(root, source.name, dict(source.settings())):
        with _resumable():
            prepare(
                source, root, cfg.prepare.workers, cfg.prepare.samples_per_shard,
                overwrite=overwrite,
            )  # fmt: skip
    return Path(root)


@contextmanager
def _resumable() -> Iterator[None]:
    """Ctrl-C within says what it leaves."""
    try:
        yield
    except KeyboardInterrupt:
        left = "whole shards are kept, and the same command goes on with the rest"
        raise KeyboardInterrupt(left) from None


def encoder(cfg: DictConfig) -> Autoencoder:
    """The representation that ``representation=`` asks for, able to encode what ``data=`` makes.

    Raises UserError where it is not, before there is any data.
    """
    representation = instantiate(cfg.representation)
    if not representation.measured:
        raise UserError(
            "the autoencoder has no latent statistics: its training never reached a validation; "
            "train it on (python train.py model=vae ckpt=…)"
        )
    _same("data.sample_rate", cfg.data.sample_rate, representation.sample_rate)
    _same("data.channels", cfg.data.channels, representation.audio_channels)
    return representation


def encoded(root: Path, representation: Autoencoder) -> Path:
    """The latents of a prepared dataset under one representation, encoded now if missing."""
    from glissando.datasets.latents import encode_dataset

    facts = read_dataset(root)
    mark = representation.fingerprint()
    out = Path("data/latents") / f"{root.name}-{mark}"
    if not _encoded_from(out, facts["fingerprint"]):
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        representation.eval().to(device)

        @torch.no_grad()
        def encode(wave: Tensor) -> Tensor:
            return representation.encode(wave.to(device)).float().cpu()

        with _resumable():
            encode_dataset(
                root, out, encode, representation=mark, hop=representation.hop, overwrite=True
            )
        representation.cpu()
    return out


def _encoded_from(out: Path, audio: str) -> bool:
    """Are there whole latents at ``out``, of the audio dataset with this fingerprint?"""
    try:
        return read_dataset(out)["audio"] == audio
    except UserError:
        return False


def _same(flag: str, data: int, wanted: int) -> None:
    if data != wanted:
        raise UserError(
            f"the data has {flag.split('.')[1]} {data} and the autoencoder works at {wanted}: "
            f"set {flag}={wanted}, or another representation.autoencoder="
        )


def _clips(cfg: DictConfig, valid_seconds: float | None = None) -> Clips:
    """The data module of ``loader=``, without its folder until that is there."""
    return Clips(
        "", seed=cfg.seed, valid_seconds=valid_seconds,
        **{str(key): value for key, value in plain(cfg.loader).items()},
    )  # fmt: skip


# ---- representations ----------------------------------------------------------------------


def latent_audio(autoencoder: str) -> Autoencoder:
    """``representation=latent_audio``: the autoencoder of a shipped model, a run or a file."""
    try:
        stored = read(locate(autoencoder, pretrained_dir(), flag="representation.autoencoder"))
    except UserError as error:
        raise UserError(f"{error} (train one: python train.py model=vae)") from None
    if stored.kind != "autoencoder":
        raise UserError(f"representation.autoencoder={autoencoder} is a {stored.kind} checkpoint")
    return _loaded(stored, "representation.")


def _loaded(stored: Stored, prefix: str) -> Autoencoder:
    representation = rebuilt(stored.facts["representation"])
    own = {
        name.removeprefix(prefix): tensor
        for name, tensor in stored.weights.items()
        if name.startswith(prefix)
    }
    representation.load_state_dict(own)
    return representation


def complete(stored: Stored) -> dict[str, Tensor]:
    """All weights of a diffusion model, those of a shipped autoencoder it leans on among them.

    Raises UserError when that autoencoder is not the one the model was trained on.
    """
    lean = stored.facts.get("autoencoder")
    if lean is None:
        return stored.weights
    shared = latent_audio(lean["name"])
    if shared.fingerprint() != lean["fingerprint"]:
        raise UserError(
            f"{stored.path} was trained on another autoencoder than the {lean['name']!r} shipped "
            "here: update glissando, or train anew"
        )
    own = {f"representation.{name}": tensor for name, tensor in shared.state_dict().items()}
    return {**own, **stored.weights}


def rebuilt(recipe: dict[str, Any]) -> Autoencoder:
    """A representation from the recipe in a checkpoint, without weights."""
    check_targets(recipe)
    representation = instantiate(recipe)
    representation.recipe = recipe
    return representation


# ---- stages -------------------------------------------------------------------------------


def autoencoder(cfg: DictConfig) -> Run:
    """``model=vae``: a raw-audio autoencoder on waveform crops."""
    from glissando.networks.summary import codec_summary
    from glissando.training.autoencoder import AutoencoderModule

    whole_number(cfg, "vae.accumulate", 1)
    if cfg.trainer.accumulate_grad_batches != 1 or cfg.trainer.gradient_clip_val is not None:
        raise UserError(
            "an autoencoder's module optimizes by itself: set vae.accumulate= and vae.clip= in "
            "place of trainer.accumulate_grad_batches= and trainer.gradient_clip_val="
        )
    channels, sample_rate = cfg.data.channels, cfg.data.sample_rate
    network = {**plain(cfg.model), "audio_channels": channels, "_partial_": False}
    recipe = {
        "_target_": "glissando.representations.autoencoder.Autoencoder",
        "network": network,
        "sample_rate": sample_rate,
    }
    representation = rebuilt(recipe)
    vae = plain(cfg.vae)
    adversary = None
    if cfg.trainer.max_steps < 0 or vae["adversarial_start"] < cfg.trainer.max_steps:
        adversary = instantiate(cfg.discriminator, audio_channels=channels)
    module = AutoencoderModule(
        representation,
        instantiate(cfg.reconstruction, sample_rate=sample_rate),
        _optimizer(cfg),
        instantiate(cfg.schedule),
        discriminator=adversary,
        discriminator_optimizer=_optimizer(cfg, "discriminator_optimizer"),
        **vae,
    )
    clips = _clips(cfg)

    def prepare() -> None:
        clips.root = str(prepared(cfg))

    def warm_start() -> None:
        def waves() -> Iterator[Tensor]:
            for batch in islice(clips.train_dataloader(), 40):
                yield batch.waveform

        module.warm_start(waves())

    def summary() -> str:
        return codec_summary(representation.network, round(cfg.loader.seconds * sample_rate))

    return Run(module, clips, "autoencoder", recipe, prepare, summary, warm_start)


def diffusion(cfg: DictConfig) -> Run:
    """``model=dit`` and its like: a denoiser on cached latents."""
    from glissando.networks.summary import network_summary
    from glissando.study.matching import match
    from glissando.training.diffusion import DiffusionModule

    _probability("diffusion.dropout", cfg.diffusion.dropout)
    representation = encoder(cfg)
    told = match(cfg, representation)
    parts = denoising(plain(cfg), representation)
    module = DiffusionModule(
        representation,
        parts.conditioners,
        parts.denoiser,
        parts.levels,
        _optimizer(cfg),
        instantiate(cfg.schedule),
        dropout=cfg.diffusion.dropout,
        dropout_alone=_dropout_alone(cfg, parts.conditioners),
    )
    clips = _clips(cfg)
    facts: dict[str, Any] = {}
    recipe: Any = representation.recipe

    def prepare() -> None:
        root = prepared(cfg)
        latents = encoded(root, representation)
        clips.root = str(latents)
        attributes = list(clip_attributes(latents))
        parts.conditioners.warm(attributes)
        # It is trained on crops where loader.seconds= asks for some.
        module.window = min(longest(root), cfg.loader.seconds or math.inf)
        module.seen = ranges(attributes)
        facts["data"] = {"window": module.window, "seen": module.seen}

    def summary() -> str:
        assert module.window is not None  # told by prepare
        frames = representation.frames(round(module.window * representation.sample_rate))
        shape = (representation.channels, representation.freqs, frames)
        return network_summary(parts.denoiser.network, shape, parts.conditioners.sizes)

    notes = [*told, *parts.notes]
    return Run(module, clips, "diffusion", recipe, prepare, summary, notes=notes, facts=facts)


def _probability(flag: str, value: Any) -> None:
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise UserError(f"{flag} must be between 0 and 1, not {value}")


def _dropout_alone(cfg: DictConfig, conditioners: Any) -> dict[str, float]:
    """``diffusion.dropout_alone``. Raises UserError for what could not have an effect."""
    found = plain(cfg.diffusion.dropout_alone)
    for name, value in found.items():
        flag = f"diffusion.dropout_alone.{name}"
        _probability(flag, value)
        if name not in conditioners.parts:
            raise UserError(f"{flag}: the conditioners are {list(conditioners.parts)}")
        if conditioners.parts[name].kept:
            raise UserError(f"{flag}: conditioner.{name}.unconditional=kept keeps it; use learned")
    return found


def _optimizer(cfg: DictConfig, changed: str = "optimizer") -> Callable[..., Any]:
    """``optimizer=`` with what ``changed`` changes of it, parameters -> optimizer.

    Tried on one weight: what torch would refuse later is refused now.
    """
    make = instantiate({**plain(cfg.optimizer), **plain(cfg[changed])})
    try:
        make([torch.nn.Parameter(torch.zeros(1, 1))])
    except ValueError as error:
        raise UserError(f"{changed}: {error}") from None
    return make


@dataclass
class Denoising:
    """The learned half of a diffusion model and the law of its training."""

    conditioners: Any
    denoiser: Any
    levels: Any
    notes: list[str]


def denoising(config: dict[str, Any], representation: Representation) -> Denoising:
    """Conditioners, network and denoiser from a plain training config.

    Raises UserError, naming the flag, when what is known and what reads it do not fit.
    """
    config = {"conditioning": {}, **config}  # conditioning=[] leaves no key
    check_targets({key: config[key] for key in ("conditioning", "conditioner", "model")})
    check_targets(config["objective"])
    mechanisms = instantiate(config["conditioning"])
    conditioners = instantiate(config["conditioner"])
    conditioners.only(_computed(conditioners.sizes, mechanisms))
    conditioners.align(representation.sample_rate / representation.hop)
    check_routing(conditioners.sizes, mechanisms, config["model"].get("share_noise", False))
    network = _network(config["model"], representation, conditioners.sizes, mechanisms)
    objective = instantiate(config["objective"])
    return Denoising(conditioners, objective.denoiser(network), objective.levels, objective.notes())


def bare_network(
    config: dict[str, Any], representation: Representation
) -> tuple[torch.nn.Module, Sizes]:
    """The network of ``denoising`` alone, and the entries it is built for: what counting needs."""
    check_targets({key: config[key] for key in ("conditioning", "conditioner", "model")})
    mechanisms = instantiate(config["conditioning"])
    sizes = _computed(instantiate(config["conditioner"]).sizes, mechanisms)
    return _network(config["model"], representation, sizes, mechanisms), sizes


def _network(
    model: dict[str, Any], representation: Representation, sizes: Sizes, mechanisms: Specs
) -> torch.nn.Module:
    # Called and not passed through Hydra, which would look into the sizes.
    return instantiate(model)(channels=representation.channels, sizes=sizes, mechanisms=mechanisms)


def _computed(sizes: Sizes, mechanisms: Specs) -> Sizes:
    """Without the half of a text encoder that no mechanism names; the check sees the rest."""
    specs = named(mechanisms).values()
    wanted = {entry for spec in specs for entry in spec.keywords["reads"]}
    return {
        name: size for name, size in sizes.items() if name in wanted or _half(name) not in wanted
    }


def _half(name: str) -> str:
    """The other one of a text encoder's two entries, ``text`` and ``text_pooled``."""
    return name.removesuffix("_pooled") if name.endswith("_pooled") else f"{name}_pooled"


def clip_attributes(root: Path) -> Iterator[dict[str, Any]]:
    """The attributes of every clip of a prepared dataset, all splits."""
    for shard, sample in _samples(root):
        yield json.loads(shard.member(sample, "json"))


def longest(root: Path) -> float:
    """Seconds of the longest clip of a prepared audio dataset."""
    return max(sample["frames"] / sample["rate"] for _, sample in _samples(root))


def ranges(attributes: list[dict[str, Any]]) -> dict[str, list[float]]:
    """The range of every attribute that is a number wherever it is given."""
    found: dict[str, list[float]] = {}
    for row in attributes:
        for name, value in row.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                low, high = found.get(name, [value, value])
                found[name] = [min(low, value), max(high, value)]
    return found


def _samples(root: Path) -> Iterator[tuple[Shard, dict[str, Any]]]:
    for split in read_dataset(root)["splits"]:
        for path in shard_paths(root, split):
            shard = Shard(path)
            for sample in shard.samples:
                yield shard, sample
