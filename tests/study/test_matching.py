"""Networks matched by parameters or operations: counted again on the networks that are trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict

from glissando.build import denoising, plain
from glissando.cli.conf import config_dir
from glissando.conditioners import Conditioners
from glissando.errors import UserError
from glissando.generation import load
from glissando.networks.layers import FeedForward
from glissando.networks.summary import flops, parameters
from glissando.study.matching import latent_shape, match, nearest
from glissando.study.outcome import size
from tiny import DIT, Train, stored

STUDY = OmegaConf.load(config_dir() / "experiment/conditioning_study.yaml")
PARAMS = STUDY.hydra.sweeper.params
MECHANISMS = PARAMS.conditioning.split(",")


class Latents:
    """What matching wants to know of a representation."""

    channels, freqs, hop, sample_rate, audio_channels, lead = 64, 1, 512, 22050, 1, 0.0

    def frames(self, length: int) -> int:
        return math.ceil(length / self.hop)


LATENTS: Any = Latents()


@cache  # composing takes longer than anything else here
def composed(*overrides: str) -> DictConfig:
    every = f"conditioning=[{','.join(MECHANISMS)}]"
    short = ["text_encoder=hash", "text_encoder.dim=384", "conditioner.text.cache=null"]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", ["name=test", every, *short, *overrides])


def study(mechanism: str, *overrides: str, **match_: Any) -> DictConfig:
    """The config of one of the study's runs: ``mechanism`` alone, ``match.…`` from ``match_``."""
    depth = [] if any(each.startswith("model=unet") for each in overrides) else ["model.depth=1"]
    cfg = composed("experiment=conditioning_study", *depth, *overrides).copy()
    with open_dict(cfg):
        cfg.conditioning = {mechanism: cfg.conditioning[mechanism]}
        cfg.match = {**cfg.match, **match_}
    return cfg


def counts(cfg: DictConfig) -> tuple[int, int]:
    """Parameters and operations of the network that a run with ``cfg`` would train."""
    parts = denoising(plain(cfg), LATENTS)
    network = parts.denoiser.network
    shape = latent_shape(LATENTS, 6.0)
    return parameters(network), flops(network, shape, parts.conditioners.sizes)


@cache
def of_the_reference() -> tuple[int, int]:
    return counts(study("adaln_zero"))


def test_the_study_is_of_every_mechanism_of_the_chapter() -> None:
    assert set(MECHANISMS) == {
        "prefix", "channel_concat", "cross_attention", "adaln", "adaln_zero", "film", "adaln_single"
    }  # fmt: skip
    assert PARAMS["match.by"].split(",") == ["parameters", "flops"]
    assert len(set(PARAMS.seed.split(","))) >= 3


@pytest.mark.parametrize("by", PARAMS["match.by"].split(","))
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_mechanism_is_as_large_as_the_reference(mechanism: str, by: str) -> None:
    reference = of_the_reference()
    cfg = study(mechanism, by=by)
    before = torch.get_rng_state()
    (line,) = match(cfg, LATENTS)
    assert torch.equal(torch.get_rng_state(), before)
    which = ["parameters", "flops"].index(by)
    found = counts(cfg)
    assert abs(found[which] / reference[which] - 1) < 0.01
    assert f"{found[which]:,} for {reference[which]:,}" in line
    assert f"model.expansion={cfg.model.expansion:g}" in line


def test_matching_changes_something_and_the_trunk_stays() -> None:
    plain_, matched = study("prefix"), study("prefix", by="flops")
    match(matched, LATENTS)
    assert counts(plain_)[1] > 1.1 * counts(matched)[1]  # 35 tokens more
    changed = {key for key in matched.model if matched.model[key] != plain_.model[key]}
    assert changed == {"expansion"}


def test_a_unet_is_matched_too() -> None:
    overrides = ("model=unet", "model.expansion=2")
    wanted = counts(study("film", *overrides))[0]
    cfg = study("cross_attention", *overrides, by="parameters", target=wanted)
    match(cfg, LATENTS)
    assert abs(counts(cfg)[0] / wanted - 1) < 0.01


def test_a_number_is_a_target_as_well() -> None:
    cfg = study("film", by="parameters", target=2e6, reference=None)
    match(cfg, LATENTS)
    assert abs(counts(cfg)[0] / 2e6 - 1) < 0.01


def test_nothing_is_matched_unless_asked() -> None:
    cfg = study("prefix")
    before = cfg.copy()
    assert match(cfg, LATENTS) == []
    assert cfg == before


@pytest.mark.parametrize(("given", "line"), [
    ({"by": "params"}, "match.by=params is neither of parameters, flops"),
    ({"by": "flops", "target": "many"}, "match.target=many must be a number from 1 on"),
    ({"by": "flops", "target": 0}, "match.target=0 must be a number from 1 on"),
    ({"by": "flops", "reference": None}, "match.by=flops has nothing to match: set match.target="),
    ({"by": "flops", "reference": "film"}, r"or add \+conditioning@match\.reference=adaln_zero"),
    ({"by": "parameters", "target": 1000}, "match.by=parameters: prefix has .* at model.expansion"),
])  # fmt: skip
def test_what_cannot_be_matched_is_one_line(given: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        match(study("prefix", **given), LATENTS)


def test_a_model_without_feed_forward_is_refused() -> None:
    with pytest.raises(UserError, match=r"sets model\.expansion, and this model has none"):
        match(study("film", "model=unet", by="parameters"), LATENTS)


def test_operations_need_the_length_of_a_clip() -> None:
    cfg = study("film", by="flops")
    cfg.data.seconds = None
    with pytest.raises(UserError, match=r"set loader\.seconds="):
        match(cfg, LATENTS)
    cfg.loader.seconds = 6.0
    match(cfg, LATENTS)
    shorter = study("film", by="flops")
    match(shorter, LATENTS)
    assert shorter.model.expansion == cfg.model.expansion


LINES: dict[str, Callable[[int], int]] = {
    "line": lambda hidden: 1000 + 37 * hidden,
    "stairs": lambda hidden: 500 + 40 * math.ceil(hidden / 24),
    "curve": lambda hidden: hidden**2,
}


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("width", [32, 192, 256, 1536])
def test_the_nearest_is_what_trying_all_would_find(name: str, width: int) -> None:
    asked: list[float] = []

    def count(expansion: float) -> int:
        asked.append(expansion)
        return LINES[name](FeedForward(width, expansion).down.in_features)

    every = {8 * steps: LINES[name](8 * steps) for steps in range(1, 300)}
    for target in (1, every[8], every[800] + 3, (every[160] + every[168]) // 2 + 1):
        asked.clear()
        with torch.device("meta"):
            expansion, found = nearest(count, width, target)
            hidden = FeedForward(width, expansion).down.in_features
        assert found == every[hidden]
        assert abs(found - target) == min(abs(value - target) for value in every.values())
        assert len(asked) == len(set(asked))
        if name == "line":
            assert len(asked) <= 8


def test_a_matched_run_is_rebuilt_from_its_checkpoint(
    train: Train, vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(
        tmp_path, *DIT, f"representation.autoencoder={vae}", "trainer.max_steps=1",
        "conditioning=film", "+conditioning@match.reference=adaln_zero", "match.by=parameters",
        "loader.seconds=0.5",
    )  # fmt: skip
    said = OmegaConf.load(tmp_path / "config.yaml")
    default = OmegaConf.load(config_dir() / "model/dit.yaml").model.expansion
    assert said.model.expansion != default
    config = stored(tmp_path)["glissando"]["config"]
    assert config["model"]["expansion"] == said.model.expansion
    monkeypatch.setattr("glissando.study.matching.nearest", None)  # nothing is matched anew
    model = load(str(tmp_path), device="cpu")
    network = model.denoiser.network
    assert isinstance(model.conditioners, Conditioners)
    shape = latent_shape(model.representation, 0.5)
    work = flops(network, shape, model.conditioners.sizes)
    assert size(tmp_path / "checkpoints/last.ckpt") == (parameters(network), work)
