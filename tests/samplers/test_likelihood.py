"""Bits per dimension against closed forms."""

import math

import pytest
import torch

from glissando.diffusion.oracle import GaussianMixture
from glissando.diffusion.path_beta import LinearBeta
from glissando.diffusion.path_cosine import Cosine
from glissando.diffusion.path_exploding import VarianceExploding
from glissando.diffusion.path_rectified import Rectified
from glissando.errors import UserError
from glissando.samplers.likelihood import Likelihood
from glissando.samplers.noise import ClipNoise

SHAPE = (1, 2, 2)
# Rows of a Hadamard matrix: signs whose outer products average to the identity, so that with
# these four probes Hutchinson's estimate is the exact trace.
HADAMARD = torch.tensor(
    [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=torch.float64
)


def signs():
    rows = iter(HADAMARD)
    return lambda: next(rows).view(1, *SHAPE).expand(6, *SHAPE)


def mixture(path, components):
    generator = torch.Generator().manual_seed(0)
    shape = (components, *SHAPE)
    return GaussianMixture(
        path,
        torch.full((components,), 1 / components, dtype=torch.float64),
        torch.randn(shape, generator=generator, dtype=torch.float64),
        0.4 + torch.rand(shape, generator=generator, dtype=torch.float64),
    )


@pytest.mark.parametrize("path", [Cosine(), VarianceExploding(), Rectified()])
@pytest.mark.parametrize("components", [1, 3])
def test_bits_are_those_of_the_density(path, components):
    oracle = mixture(path, components)
    x_0 = oracle.sample(6, torch.Generator().manual_seed(1))
    true = -oracle.log_prob(x_0, torch.zeros(6, dtype=torch.float64)) / 4 / math.log(2)
    ours = Likelihood(50, -18, 14, probes=4)(oracle, path, x_0, signs())
    torch.testing.assert_close(ours, true, rtol=0, atol=2e-3)


def test_random_probes_are_unbiased():
    path = Rectified()
    oracle = mixture(path, 3)
    x_0 = oracle.sample(1, torch.Generator().manual_seed(1)).expand(400, *SHAPE)
    true = -oracle.log_prob(x_0[:1], torch.zeros(1, dtype=torch.float64)).item() / 4 / math.log(2)
    noise = ClipNoise(range(400), SHAPE, dtype=torch.float64)
    bits = Likelihood(40, -18, 14)(oracle, path, x_0, noise)
    assert bits.std() > 0
    assert bits.mean().item() == pytest.approx(true, abs=4.5 * bits.std().item() / 20 + 2e-3)


def test_levels_beyond_the_path_are_refused():
    path = LinearBeta()
    x_0 = torch.zeros(6, *SHAPE, dtype=torch.float64)
    with pytest.raises(UserError, match=r"low=.* of the likelihood is beyond"):
        Likelihood(4, low=-18)(mixture(path, 1), path, x_0, signs())
    assert Likelihood(4)(mixture(path, 1), path, x_0, signs()).isfinite().all()


@pytest.mark.parametrize("bad", [{"steps": 0}, {"probes": 0}, {"low": 1, "high": 0}])
def test_bad_settings(bad):
    with pytest.raises(UserError, match="likelihood"):
        Likelihood(**bad)
