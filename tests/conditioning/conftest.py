"""Mechanisms as `conf/conditioning/*.yaml` gives them, and a condition that all can read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from glissando.condition import Condition, Sequence, Vector
from glissando.networks.dit import DiT
from glissando.networks.unet import UNet

FOLDER = Path(__file__).parents[2] / "conf" / "conditioning"
SINGLE = sorted(p.stem for p in FOLDER.glob("*.yaml") if len(OmegaConf.load(p)) == 1)
COMPOSED = sorted(p.stem for p in FOLDER.glob("*.yaml") if p.stem not in SINGLE)


class Lab:
    """Small networks and conditions of the default conditioner's names."""

    def specs(self, *names: str) -> dict:
        loaded = [OmegaConf.load(FOLDER / f"{name}.yaml") for name in names]
        return instantiate(OmegaConf.merge(*loaded), _convert_="all")

    def condition(self, batch: int = 2, tokens: int = 5, seed: int = 0) -> Condition:
        make = torch.Generator().manual_seed(seed)
        mask = torch.ones(batch, tokens, dtype=torch.bool)
        mask[0, 3:] = False
        return Condition(
            {
                "text": Sequence(torch.randn(batch, tokens, 12, generator=make), mask),
                "text_pooled": Vector(torch.randn(batch, 10, generator=make)),
                "seconds_start": Vector(torch.randn(batch, 6, generator=make)),
                "seconds_total": Vector(torch.randn(batch, 6, generator=make)),
                "text_generated": Sequence(torch.randn(batch, 3, 7, generator=make), mask[:, :3]),
            }
        )

    def dit(self, *names: str, sizes=None, channels: int = 4, **options) -> DiT:
        torch.manual_seed(0)
        defaults = {"width": 32, "depth": 2, "heads": 2, "noise_dim": 16}
        sizes = self.condition().sizes if sizes is None else sizes
        return DiT(channels, sizes, self.specs(*names), **{**defaults, **options})

    def unet(self, *names: str, sizes=None, channels: int = 4, patch=(1, 2), **options) -> UNet:
        """`patch` is how much coarser than the latent the second of its two levels is."""
        torch.manual_seed(0)
        defaults = {"width": 16, "multiples": [1, 2], "depth": 1, "heads": 2, "noise_dim": 16}
        more = {"attention": [1], "expansion": 2, "factor": patch, "kernel": [3, 3]}
        sizes = self.condition().sizes if sizes is None else sizes
        return UNet(channels, sizes, self.specs(*names), **{**defaults, **more, **options})

    def stir(self, network: torch.nn.Module) -> torch.nn.Module:
        """Moves every parameter off its (zero) start, so that whatever is connected shows."""
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return network


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture(params=["dit", "unet"])
def build(lab: Lab, request: pytest.FixtureRequest) -> Callable[..., DiT | UNet]:
    """`lab.dit` and `lab.unet` in turn: what every network must do is tested with both."""
    return getattr(lab, request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "mechanism" in metafunc.fixturenames:
        metafunc.parametrize("mechanism", SINGLE)
    if "preset" in metafunc.fixturenames:
        metafunc.parametrize("preset", SINGLE + COMPOSED)
    if "pair" in metafunc.fixturenames:
        pairs = [(a, b) for i, a in enumerate(SINGLE) for b in SINGLE[i + 1 :]]
        metafunc.parametrize("pair", pairs, ids="+".join)
