"""``representation=``: what waveforms become before diffusion sees them."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from glissando.build.config import plain
from glissando.checkpoints.files import Stored, locate, read
from glissando.checkpoints.instantiate import check_targets, instantiate
from glissando.cli.conf import pretrained_dir
from glissando.errors import UserError
from glissando.representations.autoencoder import Autoencoder
from glissando.representations.base import Representation


def representation(cfg: DictConfig) -> Representation:
    """What ``representation=`` asks for, able to encode what ``data=`` makes.

    Raises UserError where it is not, before there is any data.
    """
    sizes = {"sample_rate": cfg.data.sample_rate, "audio_channels": cfg.data.channels}
    recipe = {**plain(cfg.representation), **sizes}
    made = instantiate(recipe)
    made.recipe = made.recipe or recipe
    return made


_OF_MAPS = "model=vae representation=latent_mel"


def latent_audio(
    autoencoder: str, sample_rate: int, audio_channels: int, command: str = "model=vae"
) -> Autoencoder:
    """``representation=latent_audio``: a trained autoencoder, fit for such audio.

    ``command`` is how one is trained, for the error where there is none.
    """
    made = trained(autoencoder, command)
    if not made.measured:
        raise UserError(
            "the autoencoder has no latent statistics: its training never reached a validation; "
            f"train it on (python train.py {command} ckpt=…)"
        )
    _same("data.sample_rate", sample_rate, made.sample_rate)
    _same("data.channels", audio_channels, made.audio_channels)
    return made


def latent_map(
    autoencoder: str, sample_rate: int, audio_channels: int, inner: dict[str, Any], **_: Any
) -> Autoencoder:
    """``representation=latent_mel``: a trained autoencoder of ``inner``, which also decodes.

    What else stands in the yaml is for training one. Raises UserError where it was trained on
    another ``inner``.
    """
    made = latent_audio(autoencoder, sample_rate, audio_channels, _OF_MAPS)
    own = instantiate({**inner, "sample_rate": sample_rate, "audio_channels": audio_channels})
    if own.fingerprint() != made.inner.fingerprint():
        before, now = ({**each.settings, "hop": each.hop} for each in (made.inner, own))
        flags = [
            f"representation.inner.{name}={'null' if value is None else value}"
            for name, value in before.items()
            if before.keys() == now.keys() and now[name] != value
        ]
        raise UserError(
            f"representation.autoencoder={autoencoder} was trained on another inner: set "
            f"{' '.join(flags) or 'representation=latent_audio'}, or train one on this (python "
            f"train.py {_OF_MAPS})"
        )
    own.latent_mean.copy_(made.inner.latent_mean)
    own.latent_std.copy_(made.inner.latent_std)
    made.inner, made.recipe = own, {**(made.recipe or {}), "inner": own.recipe}
    return made


def untrained(cfg: DictConfig) -> Autoencoder:
    """The autoencoder that ``model=vae`` trains.

    Of waveforms by the network of ``model=``, unless ``representation=`` has an ``inner`` and a
    network that codes it.
    """
    sizes = {"sample_rate": cfg.data.sample_rate, "audio_channels": cfg.data.channels}
    given = plain(cfg.representation)
    recipe = {
        "_target_": "glissando.representations.autoencoder.Autoencoder",
        "sample_rate": cfg.data.sample_rate,
    }
    supplied = {"_partial_": False, "bottleneck": plain(cfg.bottleneck)}
    if "inner" not in given:
        network = {**plain(cfg.model), "audio_channels": cfg.data.channels, **supplied}
        return _autoencoder({**recipe, "network": network})
    inner = instantiate({**given["inner"], **sizes})
    network = {**given["network"], "map_channels": inner.channels, **supplied}
    made = _autoencoder({**recipe, "network": network, "inner": inner.recipe})
    made.inner = inner  # with what its vocoder has learned
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
    """``representation=mel`` and ``spectrogram``, decoded by one of ``vocoders``."""
    if vocoder not in vocoders:
        raise UserError(
            f"representation.vocoder={vocoder} is none of {', '.join(sorted(vocoders))}"
        )
    return rebuilt({
        "_target_": "glissando.representations.spectrogram.Spectrogram",
        "sample_rate": sample_rate, "audio_channels": audio_channels,
        "vocoder": vocoders[vocoder], **settings,
    })  # fmt: skip


def trained(autoencoder: str, command: str = "model=vae") -> Autoencoder:
    """The autoencoder of a shipped model, a run or a file; ``command`` is how one is trained."""
    try:
        stored = read(locate(autoencoder, pretrained_dir(), flag="representation.autoencoder"))
    except UserError as error:
        raise UserError(f"{error} (train one: python train.py {command})") from None
    if stored.kind != "autoencoder":
        raise UserError(f"representation.autoencoder={autoencoder} is a {stored.kind} checkpoint")
    return _loaded(stored, "representation.")


def _loaded(stored: Stored, prefix: str) -> Autoencoder:
    made = _autoencoder(stored.facts["representation"])
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


def _autoencoder(recipe: dict[str, Any]) -> Autoencoder:
    made = rebuilt(recipe)
    assert isinstance(made, Autoencoder)
    return made
