"""``match.by=``: networks as large as each other, whatever their conditioning.

Trunks stay the same (width, depth, heads); the hidden width of the feed-forwards makes up for what
the mechanisms differ in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from glissando.build import bare_network, plain
from glissando.condition import Sizes
from glissando.errors import UserError
from glissando.networks.summary import flops, parameters
from glissando.representations.base import Representation

STEP = 8  # hidden features come in eights (`networks.layers.FeedForward`)
NEAR = 0.05  # what is further from its target than this share of it is not called a match


def match(cfg: DictConfig, representation: Representation) -> list[str]:
    """Sets ``model.expansion`` so that the network is as large as ``match`` wants it.

    It is set in ``cfg``, hence in what the run and its checkpoints store: sampling builds the same
    network without matching anything. Returns the line that says so, if there was anything to do.
    Raises UserError, naming the flag, where nothing is to be matched or nothing comes near.
    """
    by, target, config = cfg.match.by, cfg.match.target, plain(cfg)
    if by is None:
        return []
    counts: dict[str, Callable[[nn.Module, Sizes], int]] = {
        "parameters": lambda network, sizes: parameters(network),
        "flops": lambda network, sizes: flops(network, _clip(cfg, representation), sizes),
    }
    if by not in counts:
        raise UserError(f"match.by={by} is neither of {', '.join(counts)}")
    if config["model"].get("expansion") is None:
        raise UserError(
            f"match.by={by} sets model.expansion, and this model has none: model=unet takes "
            "model.expansion=2, model=dit always has one"
        )

    def count(conditioning: dict[str, Any], expansion: float) -> int:
        model = {**config["model"], "expansion": expansion}
        changed = {**config, "conditioning": conditioning, "model": model}
        with torch.device("meta"):
            return counts[by](*bare_network(changed, representation))

    if target is not None and not (isinstance(target, (int, float)) and target >= 1):
        raise UserError(f"match.target={target} must be a number from 1 on")
    if target is None:
        if not isinstance(config["match"]["reference"], dict):
            raise UserError(
                f"match.by={by} has nothing to match: set match.target= to a number, or add "
                "+conditioning@match.reference=adaln_zero"
            )
        target = count(config["match"]["reference"], config["model"]["expansion"])
    own = config["conditioning"]
    expansion, found = nearest(lambda e: count(own, e), config["model"]["width"], target)
    if abs(found - target) > NEAR * target:
        raise UserError(
            f"match.by={by}: {'+'.join(own)} has {found:,} at model.expansion={expansion:g}, the "
            f"nearest to {target:,}; set another match.target= or model.width="
        )
    cfg.model.expansion = expansion
    return [f"match.by={by}: model.expansion={expansion:g}, {found:,} for {target:,}"]


def nearest(count: Callable[[float], int], width: int, target: float) -> tuple[float, int]:
    """The expansion with which a network's size is nearest to ``target``, and that size.

    Args:
        count: expansion -> parameters or operations of a network that is otherwise the same; it
            must grow with the expansion. It is asked some five times.
        width: D, the features that the expansion multiplies.

    The least there is, `STEP` hidden features, is returned where even that is more than the target.
    """

    @cache
    def at(steps: int) -> int:
        return count(_expansion(steps, width))

    low, high = 1, max(2, round(width / STEP))
    while at(high) < target:
        low, high = high, 2 * high
    # Counts are straight lines but for rounding: where a line would meet the target is all but the
    # answer, and the next guess proves it.
    while high - low > 1 and at(low) < target < at(high):
        share = (target - at(low)) / (at(high) - at(low))
        guess = min(max(low + int(share * (high - low)), low + 1), high - 1)
        low, high = (guess, high) if at(guess) <= target else (low, guess)
    steps = min(low, high, key=lambda each: abs(at(each) - target))
    return _expansion(steps, width), at(steps)


def _expansion(steps: int, width: int) -> float:
    """The expansion, of six digits, whose hidden width is rounded up to `steps` times `STEP`."""
    return math.floor(1e6 * STEP * steps / width) / 1e6


def _clip(cfg: DictConfig, representation: Representation) -> tuple[int, int, int]:
    """(C, F, T) of a training clip's latent, as far as the config alone tells its length."""
    lengths = [each for each in (cfg.loader.seconds, cfg.data.get("seconds")) if each]
    if not lengths:
        raise UserError("match.by=flops wants to know how long a clip is: set loader.seconds=")
    return latent_shape(representation, min(lengths))


def latent_shape(representation: Representation, seconds: float) -> tuple[int, int, int]:
    """(C, F, T) of the latent of so many seconds."""
    frames = representation.frames(round(seconds * representation.sample_rate))
    return representation.channels, representation.freqs, frames
