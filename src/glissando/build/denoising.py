"""The learned half of a diffusion model, from its config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from glissando.checkpoints.instantiate import check_targets, instantiate
from glissando.condition import Sizes
from glissando.conditioning.routing import Specs, check_routing, named
from glissando.networks.dit import patch_for
from glissando.representations.base import Representation


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
    conditioners.align(representation.sample_rate / representation.hop, representation.lead)
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
    if model.get("patch", ()) is None:
        model = {**model, "patch": patch_for(representation.channels, representation.freqs)}
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
