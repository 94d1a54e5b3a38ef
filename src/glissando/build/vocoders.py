"""Trained vocoders and what widens their sound, from the checkpoints that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig

from glissando.build.config import plain
from glissando.checkpoints.files import Stored, locate, read
from glissando.checkpoints.instantiate import check_targets, instantiate
from glissando.cli.conf import pretrained_dir
from glissando.errors import UserError
from glissando.networks.fold import fold
from glissando.representations.spectrogram import Spectrogram
from glissando.vocoders.neural import NeuralVocoder
from glissando.vocoders.widening import Cascade, Widening

_SETTINGS = ("n_fft", "hop", "window", "bands", "f_min", "f_max")


def spectrum_recipe(representation: DictConfig, sample_rate: int) -> dict[str, Any]:
    """The spectrum that ``representation=`` takes of waveforms at ``sample_rate``.

    Raises UserError if it takes none.
    """
    given = plain(representation)
    if missing := [name for name in _SETTINGS if name not in given]:
        raise UserError(
            f"this representation= has no {missing[0]}, so there is no spectrum to make sound of: "
            "use representation=mel or representation=spectrogram"
        )
    return {
        "_target_": "glissando.representations.spectrum.Spectrum",
        "sample_rate": sample_rate,
        **{name: given[name] for name in _SETTINGS},
    }


def stored_vocoder(
    name: str, others: Sequence[str], flag: str = "representation.vocoder"
) -> Stored:
    """The checkpoint of a trained vocoder: a shipped name, a run folder or a file.

    Raises UserError with the training command where there is none; ``others`` need no training.
    """
    stored = _stored(name, flag, f"model=vocoder, or use {flag}={' or '.join(others)}")
    if stored.kind != NeuralVocoder.kind:
        raise UserError(f"{flag}={name} is a checkpoint of kind {stored.kind}, not a vocoder")
    return stored


def _stored(name: str, flag: str, command: str) -> Stored:
    try:
        return read(locate(name, pretrained_dir(), flag=flag))
    except UserError as error:
        raise UserError(f"{error} (train one: python train.py {command})") from None


def vocoder_recipe(stored: Stored) -> dict[str, Any]:
    """What makes this vocoder for a spectrum: the ``vocoder`` of a ``Spectrogram``'s recipe."""
    recipe = {name: value for name, value in _recipe(stored).items() if name != "spectrum"}
    return {**recipe, "_partial_": True}


def _recipe(stored: Stored) -> dict[str, Any]:
    recipe = stored.facts["representation"]
    check_targets(recipe)
    return recipe


def load_vocoder(form: Spectrogram, stored: Stored, given: str) -> None:
    """The weights of ``stored`` into the vocoder of ``form``, which was made by its recipe.

    Raises UserError, naming the flags, where it was trained for another spectrum; ``given`` is the
    flag that named it.
    """
    trained, wanted = instantiate(_recipe(stored)["spectrum"]).settings, form.spectrum.settings
    different = [name for name in wanted if wanted[name] != trained[name]]
    if different:
        flags = " ".join(
            f"{'data' if name == 'sample_rate' else 'representation'}.{name}={trained[name]}"
            for name in different
        )
        raise UserError(
            f"{given} was trained for another spectrum: set {flags.replace('None', 'null')}, or "
            "train one for this (python train.py model=vocoder)"
        )
    form.vocoder.load_state_dict(_weights(stored))


def cascade(names: Sequence[str], device: torch.device) -> Cascade:
    """Trained widenings in this order, each a shipped name, a run folder or a file.

    Raises UserError for what is none.
    """
    parts = []
    for name in names:
        stored = _stored(name, "cascade", "model=bandwidth_extension or model=mono_to_stereo")
        if stored.kind != Widening.kind:
            raise UserError(
                f"cascade={name} is a checkpoint of kind {stored.kind}: it takes those of "
                "model=bandwidth_extension and model=mono_to_stereo"
            )
        part = instantiate(_recipe(stored))
        part.load_state_dict(_weights(stored))
        fold(part.eval().requires_grad_(False)).to(device)
        parts.append((f"cascade={name}", part))
    return Cascade(parts)


def _weights(stored: Stored) -> dict[str, Any]:
    prefix = "generator."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in stored.weights.items()
        if name.startswith(prefix)
    }
