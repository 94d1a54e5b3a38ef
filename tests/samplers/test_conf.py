"""Every yaml of objective/, sampler/ and guidance/ builds and runs."""

from pathlib import Path

import pytest
import torch
from gaussians import PATHS, SHAPE, gaussian
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from glissando.condition import Condition
from glissando.diffusion.objective import Objective
from glissando.guidance import Companion
from glissando.samplers.noise import ClipNoise

CONF = Path(__file__).parents[2] / "conf"


def stems(group):
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


@pytest.fixture(scope="module", autouse=True)
def hydra():
    with initialize_config_dir(str(CONF), version_base=None):
        yield


def build(group, *overrides):
    name = group.split("=")[0]
    return instantiate(compose(overrides=[f"+{group}", *overrides])[name])


class Echo(torch.nn.Module):
    def forward(self, z, noise, condition, mask=None):
        return 0.5 * z


def trains(objective):
    assert isinstance(objective, Objective)
    denoiser = objective.denoiser(Echo())
    x_0, eps = torch.randn(2, 64, *SHAPE, generator=torch.Generator().manual_seed(0))
    t = objective.levels.draw(objective.path, 64, length=torch.full((64,), 300))
    assert denoiser.loss(x_0, eps, t, Condition()).isfinite().all()


@pytest.mark.parametrize("name", stems("objective"))
def test_objectives(name):
    objective = build(f"objective={name}")
    trains(objective)
    assert objective.notes() == []


@pytest.mark.parametrize("part", ["path", "parameterization", "levels", "weighting"])
def test_any_part_can_be_exchanged(part):
    for name in stems(f"objective/{part}"):
        trains(build("objective=rectified_flow", f"objective/{part}={name}"))


@pytest.mark.parametrize("name", stems("sampler"))
def test_samplers(name):
    sampler = build(f"sampler={name}")
    for path in PATHS.values():
        fresh = ClipNoise([0, 1], SHAPE, dtype=torch.float64)
        sampler.steps = min(sampler.steps, 10)
        assert sampler(gaussian(path), path, fresh(), fresh).isfinite().all()


def test_spacings_and_steps_by_flag():
    for name in stems("sampler/spacing"):
        sampler = build("sampler=euler", f"sampler/spacing={name}", "sampler.steps=7")
        assert len(sampler.spacing(build("objective=v").path, sampler.steps)) == 8
    with pytest.raises(Exception, match="stepz"):
        build("sampler=euler", "sampler.stepz=7")


@pytest.mark.parametrize("name", stems("guidance"))
def test_guidances(name):
    """One with a companion is given the model itself."""
    cfg = compose(overrides=[f"+guidance={name}"]).guidance
    if OmegaConf.is_missing(cfg, "ckpt"):
        cfg.ckpt = "another"
    denoiser = build("objective=v").denoiser(Echo())
    guidance = instantiate(cfg).bind(lambda _: Companion(denoiser, Condition()))
    z, t = torch.randn(2, *SHAPE), torch.full((2,), 0.5)
    estimate = guidance(denoiser, Condition(), Condition())(z, t)
    assert estimate.x_0.isfinite().all()
