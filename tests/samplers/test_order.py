"""The order of every deterministic sampler, measured against an exact flow."""

import math

import pytest
import torch

from glissando.samplers.dpmpp_2m import DPMpp2M
from glissando.samplers.euler import Euler
from glissando.samplers.heun import Heun
from glissando.samplers.spacing import LogSnrLinear

STEPS = [64, 128, 256, 512]
# t from .98 to .02 on the rectified path: away from both ends, where nothing is smooth.
EDGE = 2 * math.log(0.98 / 0.02)
SAMPLERS = [(Euler, 0.9), (Heun, 1.9), (DPMpp2M, 1.9)]


def slope(errors):
    """Least-squares slope of -log error over log steps."""
    x, y = torch.tensor(STEPS).double().log(), torch.tensor(errors).double().log()
    x, y = x - x.mean(), y - y.mean()
    return -float((x * y).sum() / (x * x).sum())


@pytest.mark.parametrize(("sampler", "order"), SAMPLERS)
def test_order(path, oracle, noise, sampler, order):
    spacing = LogSnrLinear(-EDGE, EDGE, to_data=False)
    errors = []
    for steps in STEPS:
        ours = sampler(steps, spacing)(oracle, path, noise)
        first, *_, last = spacing(path, steps).tolist()
        start = path(torch.tensor(first, dtype=torch.float64)).sigma * noise
        errors.append((ours - oracle.flow_map(start, first, last)).abs().max().item())
    assert slope(errors) >= order
    assert slope(errors) < order + 0.7  # an order too good means a test that sees nothing


@pytest.mark.parametrize(("sampler", "order"), SAMPLERS)
def test_converges_on_a_mixture_too(path, mixture, noise, sampler, order):
    """No closed form: against the same sampler at eight times the steps of the coarsest."""
    spacing = LogSnrLinear(-EDGE, EDGE, to_data=False)
    coarse, fine, finest = (
        sampler(steps, spacing)(mixture, path, noise) for steps in (128, 256, 1024)
    )
    ratio = (coarse - finest).abs().max() / (fine - finest).abs().max()
    true = (1 - 8.0**-order) / (2.0**-order - 8.0**-order)
    assert ratio > 0.9 * true
