"""The order of every deterministic sampler, measured against an exact flow."""

import math
from functools import partial

import pytest
import torch
from gaussians import gaussian

from glissando.diffusion.path_cosine import Cosine
from glissando.samplers.ddim import DDIM
from glissando.samplers.dpmpp_2m import DPMpp2M, DPMpp2MSDE
from glissando.samplers.dpmpp_3m_sde import DPMpp3MSDE
from glissando.samplers.euler import Euler
from glissando.samplers.heun import Heun
from glissando.samplers.heun_churn import HeunChurn
from glissando.samplers.rk4 import RK4
from glissando.samplers.spacing import LogSnrLinear
from glissando.samplers.unipc import UniPC

STEPS = [64, 128, 256, 512]
# t from .98 to .02 on the rectified path: away from both ends, where nothing is smooth.
EDGE = 2 * math.log(0.98 / 0.02)
SAMPLERS = {
    "euler": (Euler, 0.9),
    "ddim": (DDIM, 0.9),
    "heun": (Heun, 1.9),
    "heun_churn": (partial(HeunChurn, churn=0), 1.9),
    "dpmpp_2m": (DPMpp2M, 1.9),
    "dpmpp_2m_sde": (partial(DPMpp2MSDE, eta=0), 1.9),
    "unipc_1": (partial(UniPC, order=1), 1.9),
    "unipc_2": (partial(UniPC, order=2), 2.9),
    "unipc_3": (partial(UniPC, order=3), 3.7),
    "rk4": (RK4, 3.8),
}


def slope(errors):
    """Least-squares slope of -log error over log steps."""
    x, y = torch.tensor(STEPS).double().log(), torch.tensor(errors).double().log()
    x, y = x - x.mean(), y - y.mean()
    return -float((x * y).sum() / (x * x).sum())


def errors(sampler, path, oracle, noise, spacing, steps=STEPS):
    """Largest error against the exact flow between the ends of the grid, per number of steps."""
    found = []
    for n in steps:
        ours = sampler(n, spacing)(oracle, path, noise)
        first, *_, last = spacing(path, n).tolist()
        start = path(torch.tensor(first, dtype=torch.float64)).sigma * noise
        found.append((ours - oracle.flow_map(start, first, last)).abs().max().item())
    return found


@pytest.mark.parametrize(("sampler", "order"), SAMPLERS.values(), ids=SAMPLERS)
def test_order(path, oracle, noise, sampler, order):
    spacing = LogSnrLinear(-EDGE, EDGE, to_data=False)
    measured = slope(errors(sampler, path, oracle, noise, spacing))
    assert order <= measured < order + 0.4  # too good an order means a test that sees nothing


@pytest.mark.parametrize(("curvature", "order"), [(2.0, 2.8), (1.0, 1.8)])
def test_order_of_dpmpp_3m_depends_on_its_curvature(noise, curvature, order):
    """From log-SNR -18, where x_0 hardly moves, so that its first steps, of lower order, are free.

    To 0 only: over all of the path the errors of a Gaussian's two halves nearly cancel.
    """
    spacing = LogSnrLinear(-18, 0, to_data=False)
    sampler = partial(DPMpp3MSDE, eta=0, curvature=curvature)
    measured = slope(errors(sampler, Cosine(), gaussian(Cosine()), noise, spacing))
    assert order <= measured < order + 0.4


@pytest.fixture(scope="module")
def truths():
    """What a mixture's flow, which has no closed form, makes of the noise, per path."""
    return {}


@pytest.mark.parametrize(("sampler", "order"), SAMPLERS.values(), ids=SAMPLERS)
def test_converges_on_a_mixture_too(path, mixture, noise, truths, sampler, order):
    spacing = LogSnrLinear(-6, 6, to_data=False)
    if path not in truths:
        truths[path] = RK4(300, spacing)(mixture, path, noise)
    coarse, fine = (
        (sampler(steps, spacing)(mixture, path, noise) - truths[path]).abs().max()
        for steps in (60, 120)
    )
    assert coarse / fine > 0.8 * 2**order
