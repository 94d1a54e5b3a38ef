"""``representation=``: what waveforms become before diffusion sees them."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from glissando.build.config import plain
from glissando.build.vocoders import load_vocoder, stored_vocoder, vocoder_recipe
from glissando.checkpoints.files import Stored, locate, read
from glissando.checkpoints.instantiate import check_targets, instantiate
from glissando.cli.conf import pretrained_dir
from glissando.errors import UserError
from glissando.representations.autoencoder import Autoencoder
from glissando.representations.base import Representation
from glissando.representations.spectrogram import Spectrogram


def representation(cfg: DictConfig) -> Representation:
    """What ``representation=`` asks for, able to encode what ``data=`` makes.

    Raises UserError where it is not, before there is any data.
    """
    sizes = {"sample_rate": cfg.data.sample_rate, "audio_channels": cfg.data.channels}
    recipe = {**plain(cfg.representation), **sizes}
    made = instantiate(recipe)
    made.recipe = made.recipe or recipe
    return made


def latent_audio(autoencoder: str | None, sample_rate: int, audio_channels: int) -> Autoencoder:
    """``representation=latent_audio``: a trained autoencoder, fit for such audio.

    Raises UserError where it is not, or where an experiment leaves it (None) to the user to name.
    """
    if autoencoder is None:
        raise UserError(
            "no autoencoder is named: set representation.autoencoder= to a trained one "
            f"of {sample_rate} Hz and {audio_channels} channel(s)"
        )
    made = trained(autoencoder)
    if not made.measured:
        raise UserError(
            "the autoencoder has no latent statistics: its training never reached a validation; "
            "train it on (python train.py model=vae ckpt=…)"
        )
    _same("data.sample_rate", sample_rate, made.sample_rate)
    _same("data.channels", audio_channels, made.audio_channels)
    return made


def _same(flag: str, data: int, wanted: int) -> None:
    if data != wanted:
        raise UserError(
            f"the data has {flag.split('.')[1]} {data} and the autoencoder works at {wanted}: "
            f"set {flag}={wanted}, or another representation.autoencoder="
        )


def spectrogram(
    sample_rate: int,
    audio_channels: int,
    vocoder: str,
    vocoders: dict[str, dict[str, Any]],
    **settings: Any,
) -> Representation:
    """``representation=mel`` and ``spectrogram``: ``vocoder`` is one of ``vocoders``, or trained.

    Raises UserError where it is neither, or was trained for another spectrum.
    """
    recipe = {
        "_target_": "glissando.representations.spectrogram.Spectrogram",
        "sample_rate": sample_rate, "audio_channels": audio_channels, **settings,
    }  # fmt: skip
    if vocoder in vocoders:
        return rebuilt({**recipe, "vocoder": vocoders[vocoder]})
    stored = stored_vocoder(vocoder, list(vocoders))
    made = rebuilt({**recipe, "vocoder": vocoder_recipe(stored)})
    assert isinstance(made, Spectrogram)
    load_vocoder(made, stored, f"representation.vocoder={vocoder}")
    return made


def trained(autoencoder: str) -> Autoencoder:
    """The autoencoder of a shipped model, a run or a file."""
    try:
        stored = read(locate(autoencoder, pretrained_dir(), flag="representation.autoencoder"))
    except UserError as error:
        raise UserError(f"{error} (train one: python train.py model=vae)") from None
    if stored.kind != "autoencoder":
        raise UserError(f"representation.autoencoder={autoencoder} is a {stored.kind} checkpoint")
    return _loaded(stored, "representation.")


def _loaded(stored: Stored, prefix: str) -> Autoencoder:
    made = rebuilt(stored.facts["representation"])
    assert isinstance(made, Autoencoder)
    own = {
        name.removeprefix(prefix): tensor
        for name, tensor in stored.weights.items()
        if name.startswith(prefix)
    }
    made.load_state_dict(own)
    return made


def complete(stored: Stored) -> dict[str, Tensor]:
    """All weights of a diffusion model, those of a shipped autoencoder it leans on among them.

    Raises UserError when that autoencoder is not the one the model was trained on.
    """
    lean = stored.facts.get("autoencoder")
    if lean is None:
        return stored.weights
    shared = trained(lean["name"])
    if shared.fingerprint() != lean["fingerprint"]:
        raise UserError(
            f"{stored.path} was trained on another autoencoder than the {lean['name']!r} shipped "
            "here: update glissando, or train anew"
        )
    own = {f"representation.{name}": tensor for name, tensor in shared.state_dict().items()}
    return {**own, **stored.weights}


def rebuilt(recipe: dict[str, Any]) -> Representation:
    """A representation from the recipe in a checkpoint, without weights."""
    check_targets(recipe)
    made = instantiate(recipe)
    made.recipe = recipe
    return made
