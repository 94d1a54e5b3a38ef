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

_OF_MELS = "model=vae representation=latent_mel"
_OF_AUTOENCODERS = ("autoencoder", "network", "reconstruction", "discriminator")


def representation(cfg: DictConfig) -> Representation:
    """What ``representation=`` asks for, able to encode what ``data=`` makes.

    Raises UserError where it is not, before there is any data.
    """
    sizes = {"sample_rate": cfg.data.sample_rate, "audio_channels": cfg.data.channels}
    recipe = {**plain(cfg.representation), **sizes}
    made = instantiate(recipe)
    made.recipe = made.recipe or recipe
    return made


def latent_audio(
    autoencoder: str | None, sample_rate: int, audio_channels: int, command: str = "model=vae"
) -> Autoencoder:
    """``representation=latent_audio``: a trained autoencoder, fit for such audio.

    ``command`` is how one is trained, for the errors. Raises UserError where it does not fit, or
    where an experiment leaves it (None) to the user to name.
    """
    if autoencoder is None:
        raise UserError(
            "no autoencoder is named: set representation.autoencoder= to a trained one of "
            f"{sample_rate} Hz and {audio_channels} channel(s) (python train.py {command})"
        )
    made = trained(autoencoder, command)
    if not made.measured:
        raise UserError(
            "the autoencoder has no latent statistics: its training never reached a validation; "
            f"train it on (python train.py {command} ckpt=…)"
        )
    _same("data.sample_rate", sample_rate, made.sample_rate)
    _same("data.channels", audio_channels, made.audio_channels)
    return made


def latent_mel(
    autoencoder: str | None, sample_rate: int, audio_channels: int, **settings: Any
) -> Autoencoder:
    """``representation=latent_mel``: a trained autoencoder of spectrograms, which also sounds.

    ``settings`` are those of ``spectrogram``, and what training such an autoencoder needs. Raises
    UserError where it was trained on another spectrogram.
    """
    made = latent_audio(autoencoder, sample_rate, audio_channels, _OF_MELS)
    own = _inner(settings, sample_rate, audio_channels)
    if own.fingerprint() != made.inner.fingerprint():
        before, now = ({**each.settings, "hop": each.hop} for each in (made.inner, own))
        flags = [
            f"representation.{name}={'null' if value is None else value}"
            for name, value in before.items()
            if before.keys() == now.keys() and now[name] != value
        ]
        raise UserError(
            f"representation.autoencoder={autoencoder} was trained on another representation: set "
            f"{' '.join(flags) or 'representation=latent_audio'}, or train one on this (python "
            f"train.py {_OF_MELS})"
        )
    own.latent_mean.copy_(made.inner.latent_mean)
    own.latent_std.copy_(made.inner.latent_std)
    made.inner, made.recipe = own, {**(made.recipe or {}), "inner": own.recipe}
    return made


def untrained(cfg: DictConfig) -> Autoencoder:
    """The autoencoder that ``model=vae`` trains.

    Of waveforms by the network of ``model=``, unless ``representation=`` brings one, which codes
    its spectrograms. Raises UserError where it codes neither.
    """
    sample_rate, channels = cfg.data.sample_rate, cfg.data.channels
    given = plain(cfg.representation)
    if "autoencoder" not in given:
        raise UserError(
            "the representation that is set has no autoencoder that could be trained: leave "
            "representation= out for one of waveforms, or set representation=latent_mel for one of "
            "spectrograms"
        )
    recipe = {
        "_target_": "glissando.representations.autoencoder.Autoencoder",
        "sample_rate": sample_rate,
    }
    supplied = {"_partial_": False, "bottleneck": plain(cfg.bottleneck)}
    if "network" not in given:
        network = {**plain(cfg.model), "audio_channels": channels, **supplied}
        return _autoencoder({**recipe, "network": network})
    inner = _inner(given, sample_rate, channels)
    network = {**given["network"], "map_channels": inner.channels, **supplied}
    made = _autoencoder({**recipe, "network": network, "inner": inner.recipe})
    made.inner = inner  # with what its vocoder has learned
    return made


def _inner(settings: dict[str, Any], sample_rate: int, audio_channels: int) -> Representation:
    """The spectrogram that ``representation=latent_mel`` codes."""
    own = {
        name: value
        for name, value in settings.items()
        if name not in _OF_AUTOENCODERS and not name.startswith("_")
    }
    return spectrogram(sample_rate, audio_channels, **own)


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
