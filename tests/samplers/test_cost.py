"""What a fixed-step sampler may cost besides its network: no wait for the device, four latents."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from glissando.condition import Condition
from glissando.diffusion.denoiser import Denoiser
from glissando.diffusion.estimate import Estimate
from glissando.diffusion.parameterization import Velocity
from glissando.diffusion.path_rectified import Rectified
from glissando.guidance.classifier_free import ClassifierFree
from glissando.samplers import base
from glissando.samplers.euler import Euler
from glissando.samplers.noise import ClipNoise
from glissando.samplers.ode import Solver

ROOT = Path(__file__).parents[2]
if str(ROOT / "benchmarks") not in sys.path:
    sys.path.append(str(ROOT / "benchmarks"))
alive = importlib.import_module("alive")

PATH = Rectified()
SHAPE = (16, 1, 256)  # of a clip: large beside the scalars that are counted as well
SEEDS = [0, 1]


def fixed_step():
    """Every sampler of conf/sampler/ but those that leave their steps to a library, by name."""
    found = {}
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        for file in sorted((ROOT / "conf" / "sampler").glob("*.yaml")):
            sampler = instantiate(compose(overrides=[f"+sampler={file.stem}"]).sampler)
            sampler.steps = 6  # enough for every memory of earlier steps to be full
            if not isinstance(sampler, Solver):
                found[file.stem] = sampler
    return found


SAMPLERS = fixed_step()
each = pytest.mark.parametrize("name", SAMPLERS)


class Half(torch.nn.Module):
    def forward(self, z, noise, condition, mask=None):
        return 0.5 * z


def guided():
    guidance = ClassifierFree(4.0, rescale=0.5, interval=[-3, 3])
    return guidance(Denoiser(Half(), PATH, Velocity()), Condition(), Condition())


class Peeking(Euler):
    """Reads a value of z at every step."""

    def __init__(self, peek):
        super().__init__(3)
        self.peek = peek

    def step(self, run, z, t, s):
        self.peek(z)
        return super().step(run, z, t, s)


class Hoarding(Euler):
    """Keeps every z."""

    def __init__(self):
        super().__init__(6)
        self.all = []

    def step(self, run, z, t, s):
        self.all.append(z)
        return super().step(run, z, t, s)


def without_device(sampler, monkeypatch):
    """A run on the meta device, whose tensors have no values.

    Whatever would read one on the host, and so wait for a GPU (item, bool, a copy, a choice of
    elements), raises there; the grid and t are on the host and stay real. The look at the end,
    for NaN, is left out.
    """
    monkeypatch.setattr(base, "report", lambda worst, grid: None)
    fresh = ClipNoise(SEEDS, SHAPE, "meta")
    return sampler(guided(), PATH, fresh(), fresh)


@each
def test_no_step_waits_for_the_device(name, monkeypatch):
    out = without_device(SAMPLERS[name], monkeypatch)
    assert out.device.type == "meta"
    assert out.shape == (2, *SHAPE)


@pytest.mark.parametrize(
    "peek",
    [
        lambda z: z.sum().item(),
        lambda z: bool(z.isfinite().all()),
        lambda z: z.abs().max().cpu(),
        lambda z: z.mean((1, 2, 3)).tolist(),
        lambda z: z[z > 0],
    ],
    ids=["item", "bool", "cpu", "tolist", "mask"],
)
def test_a_step_that_waits_is_seen(peek, monkeypatch):
    with pytest.raises((RuntimeError, NotImplementedError)):
        without_device(Peeking(peek), monkeypatch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each
def test_no_step_waits_for_a_gpu(name, monkeypatch):
    """The same, on a device that can be waited for."""
    monkeypatch.setattr(base, "report", lambda worst, grid: None)
    fresh = ClipNoise(SEEDS, SHAPE, "cuda")
    noise = fresh()
    SAMPLERS[name](guided(), PATH, noise, fresh)  # what is made once may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        SAMPLERS[name](guided(), PATH, noise, fresh)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def held(sampler):
    """The most latents that it keeps while the network runs, besides the network's input."""
    answers = Estimate(*torch.randn(2, len(SEEDS), *SHAPE))
    with torch.no_grad(), alive.Alive() as counted:
        denoise = alive.Held(counted, answers)
        fresh = ClipNoise(SEEDS, SHAPE)
        sampler(denoise, PATH, fresh(), fresh)
    return denoise.held


# Up to Python 3.10 a call keeps its arguments alive, here the first z.
SPARE = 1 if sys.version_info < (3, 11) else 0


@each
def test_at_most_four_latents_beyond_the_network(name):
    assert 1 <= held(SAMPLERS[name]) < 4.1 + SPARE  # the caller's noise is one; scalars the rest


def test_latents_are_counted():
    """Euler keeps nothing but the caller's noise; the one that keeps all has 5 earlier z more."""
    assert held(Euler(6)) == pytest.approx(1 + SPARE, abs=0.1)
    assert held(Hoarding()) == pytest.approx(1 + 5, abs=0.1)
