"""What is compared: the representations that ship, and those that runs have trained."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from glissando.build import plain, representation
from glissando.checkpoints.files import locate, read
from glissando.cli.conf import config_dir, pretrained_dir
from glissando.cli.nearest import did_you_mean
from glissando.errors import UserError
from glissando.networks.fold import fold
from glissando.representations.base import Representation

LEARNED = ("autoencoder", "vocoder")
"""Keys of a representation that name what training made; a checkpoint's kind is one of them."""


@dataclass(frozen=True)
class Candidate:
    """A representation by its settings; nothing is read before ``build``.

    ``flags`` are what chooses it on a command line, ``settings`` the keys of ``representation=``.
    """

    name: str
    flags: str
    settings: dict[str, Any]

    @property
    def slug(self) -> str:
        """A file's name for it, another one for other flags."""
        return re.sub(r"\W+", "-", self.flags.replace("representation", "")).strip("-")

    def build(self, data: DictConfig) -> Representation:
        """The representation for such data. Raises UserError where there is none."""
        cfg = OmegaConf.create({"data": plain(data), "representation": self.settings})
        return fold(representation(cfg).eval())

    def core_seconds(self) -> float | None:
        """Processor time that its learned parts took to train; None where that was not written."""
        total = 0.0
        for part in LEARNED:
            name = self.settings.get(part)
            if name is None or name in self.settings.get(f"{part}s", ()):
                continue
            took = read(locate(name, pretrained_dir())).facts.get("core_seconds")
            if took is None:
                return None
            total += took
        return total


def shipped(names: list[str] | None = None) -> list[Candidate]:
    """Those of ``conf/representation/``, or some of them. Raises UserError for an unknown name."""
    known = sorted(path.stem for path in (config_dir() / "representation").glob("*.yaml"))
    for name in names or ():
        if name not in known:
            raise UserError(
                f"representations={name} is none of {', '.join(known)}{did_you_mean(name, known)}"
            )
    return [_shipped(name) for name in names or known]


def _shipped(name: str) -> Candidate:
    # Within a command Hydra is there already, and knows of its --config-dir too.
    begun = GlobalHydra.instance().is_initialized()
    with nullcontext() if begun else initialize_config_dir(str(config_dir()), version_base="1.3"):
        settings = plain(compose("encode", [f"representation={name}"]).representation)
    parts = [f" representation.{part}={settings[part]}" for part in LEARNED if part in settings]
    return Candidate(name, f"representation={name}{''.join(parts)}", settings)


def of_run(given: str) -> Candidate:
    """What a run, a checkpoint or a shipped model has trained, in the representation of its run.

    Raises UserError where it is no part of a representation.
    """
    stored = read(locate(given, pretrained_dir(), flag="runs"))
    config = stored.facts["config"]
    settings = config["representation"]
    if stored.kind not in LEARNED or stored.kind not in settings:
        raise UserError(
            f"runs={given} is a checkpoint of kind {stored.kind}: it takes those of autoencoders "
            "and vocoders"
        )
    form = settings["_target_"].rpartition(".")[2]  # latent_audio, latent_mel, spectrogram
    flag = f"representation.{stored.kind}={given}"
    name = given if stored.path.parent == pretrained_dir() else config["name"]
    return Candidate(f"{form}: {name}", flag, {**settings, stored.kind: given})
