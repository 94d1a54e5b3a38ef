"""A training stage, from its config: what ``stage:`` in a model's yaml names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from glissando.build.config import plain, whole_number
from glissando.build.data import (
    clip_attributes,
    clips_of,
    encoded,
    longest,
    measure,
    prepared,
    ranges,
)
from glissando.build.denoising import denoising
from glissando.build.representations import representation as representation_of
from glissando.build.representations import untrained
from glissando.build.vocoders import spectrum_recipe
from glissando.checkpoints.instantiate import check_targets, instantiate
from glissando.errors import UserError
from glissando.networks.summary import Summary
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
    summary: Callable[[], Summary]
    warm_start: Callable[[], None] | None = None
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def autoencoder(cfg: DictConfig) -> Run:
    """``model=vae``: an autoencoder of waveforms or of spectrograms, on crops."""
    from glissando.networks.summary import codec_summary
    from glissando.training.autoencoder import AutoencoderModule

    representation = untrained(cfg)
    channels = representation.inner.channels
    maps = cfg.representation if "network" in cfg.representation else None
    module = AutoencoderModule(representation, **_adversarial(cfg, "vae", channels, maps))
    clips = clips_of(cfg)

    def prepare() -> None:
        clips.root = str(prepared(cfg))

    def warm_start() -> None:
        def waves() -> Iterator[Tensor]:
            for batch in islice(clips.train_dataloader(), 1000):  # at most
                yield batch.waveform

        module.warm_start(waves())

    def summary() -> Summary:
        inner, length = representation.inner, round(cfg.loader.seconds * cfg.data.sample_rate)
        return codec_summary(representation.network, inner.freqs, inner.frames(length), length)

    recipe: Any = representation.recipe
    return Run(module, clips, "autoencoder", recipe, prepare, summary, warm_start)


def generator(cfg: DictConfig) -> Run:
    """``model=vocoder`` and its like: what makes waveforms out of less, on crops of them."""
    from glissando.networks.summary import generator_summary
    from glissando.training.generator import GeneratorModule

    whole_number(cfg, "input_rate", 1)
    recipe = {
        **plain(cfg.generator),
        "spectrum": spectrum_recipe(cfg.representation, cfg.input_rate),
        "network": plain(cfg.model),
    }
    check_targets(recipe)
    made = instantiate(recipe)
    module = GeneratorModule(made, **_adversarial(cfg, "gan", cfg.data.channels))
    clips = clips_of(cfg)

    def prepare() -> None:
        clips.root = str(prepared(cfg))

    def summary() -> Summary:
        hop = made.spectrum.stft.hop
        frames = math.ceil(cfg.loader.seconds * made.spectrum.sample_rate / hop)
        return generator_summary(made.network, made.spectrum.freqs, hop, frames)

    return Run(module, clips, made.kind, recipe, prepare, summary)


def diffusion(cfg: DictConfig) -> Run:
    """``model=dit`` and its like: a denoiser on cached latents."""
    from glissando.networks.summary import network_summary
    from glissando.study.matching import match
    from glissando.training.diffusion import DiffusionModule
    from glissando.training.mixup import BeatMixup

    _probability("diffusion.dropout", cfg.diffusion.dropout)
    representation = representation_of(cfg)
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
        mixup=BeatMixup(**plain(cfg.diffusion.mixup)),
    )
    clips = clips_of(cfg)
    facts: dict[str, Any] = {}
    recipe: Any = representation.recipe

    def prepare() -> None:
        root = prepared(cfg, latents=True)
        latents = encoded(root, representation, parts.conditioners.controls)
        measure(representation, latents)
        clips.root = str(latents)
        attributes = list(clip_attributes(latents))
        parts.conditioners.warm(attributes)
        # It is trained on crops where loader.seconds= asks for some.
        module.window = min(longest(root), cfg.loader.seconds or math.inf)
        module.seen = ranges(attributes)
        facts["data"] = {"window": module.window, "seen": module.seen}

    def summary() -> Summary:
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


def _adversarial(
    cfg: DictConfig, key: str, channels: int, maps: DictConfig | None = None
) -> dict[str, Any]:
    """What an ``AdversarialModule`` wants besides its generator; ``key`` holds its weights.

    It compares waveforms of so many channels, or maps where a representation brings the
    ``reconstruction`` and ``discriminator`` for its own. Raises UserError for what such a module
    does by itself.
    """
    whole_number(cfg, f"{key}.accumulate", 1)
    if cfg.trainer.accumulate_grad_batches != 1 or cfg.trainer.gradient_clip_val is not None:
        raise UserError(
            f"a module with an adversary optimizes by itself: set {key}.accumulate= and "
            f"{key}.clip= in place of trainer.accumulate_grad_batches= and "
            "trainer.gradient_clip_val="
        )
    options = plain(cfg[key])
    adversary = None
    if cfg.trainer.max_steps < 0 or options["adversarial_start"] < cfg.trainer.max_steps:
        adversary = instantiate((maps or cfg).discriminator, audio_channels=channels)
    if maps is None:
        reconstruction = instantiate(cfg.reconstruction, sample_rate=cfg.data.sample_rate)
    else:
        reconstruction = instantiate(maps.reconstruction)
    return {
        "reconstruction": reconstruction,
        "optimizer": _optimizer(cfg),
        "schedule": instantiate(cfg.schedule),
        "discriminator": adversary,
        "discriminator_optimizer": _optimizer(cfg, "discriminator_optimizer"),
        **options,
    }


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
