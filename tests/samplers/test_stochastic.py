"""Samplers that add noise: moments, strong convergence along one Brownian path, EDM's paper."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from gaussians import SHAPE, gaussian

from glissando.diffusion.path_cosine import Cosine
from glissando.diffusion.path_exploding import VarianceExploding
from glissando.diffusion.path_rectified import Rectified
from glissando.samplers.base import place, points
from glissando.samplers.brownian import Brownian
from glissando.samplers.ddim import DDIM
from glissando.samplers.dpmpp_2m import DPMpp2M, DPMpp2MSDE
from glissando.samplers.dpmpp_3m_sde import DPMpp3MSDE
from glissando.samplers.euler import Euler
from glissando.samplers.euler_maruyama import EulerMaruyama
from glissando.samplers.heun_churn import HeunChurn
from glissando.samplers.ode import Ode
from glissando.samplers.pingpong import PingPong
from glissando.samplers.sde import Sde
from glissando.samplers.spacing import Karras, Listed, LogSnrLinear

CLIPS = 1000
SPACING = LogSnrLinear()
SAMPLERS = [
    DDIM(100, SPACING, eta=1),
    DDIM(60, SPACING, eta=0.3),
    EulerMaruyama(100, SPACING),
    HeunChurn(40, SPACING),
    DPMpp2MSDE(40, SPACING),
    DPMpp2MSDE(40, SPACING, eta=0.5),
    DPMpp3MSDE(40, SPACING),
    Sde(40),
    # Not stochastic: the probability flow must reach the same marginals.
    DPMpp2M(40, SPACING),
    Ode(),
]


class Batch:
    """Noise of many clips from two generators: one per clip would take most of the test."""

    def __init__(self, clips=CLIPS, shape=SHAPE, seed=3):
        self.shape = (clips, *shape)
        self.generator = torch.Generator().manual_seed(seed)
        self.between = Brownian(self.node)

    def node(self, number):
        generator = torch.Generator().manual_seed(1000 + number)
        return torch.randn(self.shape, generator=generator, dtype=torch.float64)

    def __call__(self):
        return torch.randn(self.shape, generator=self.generator, dtype=torch.float64)


def names(value):
    return type(value).__name__


@pytest.mark.parametrize("sampler", SAMPLERS, ids=names)
@pytest.mark.parametrize("path", [Cosine(), VarianceExploding()], ids=names)
def test_mean_and_covariance(path, sampler):
    oracle, fresh = gaussian(path), Batch()
    x_0 = sampler(oracle, path, fresh(), fresh).flatten(1)
    mean, std = oracle.means.flatten(), oracle.stds.flatten()
    error = 1 / math.sqrt(CLIPS)
    # 4.5 standard errors of a Monte-Carlo mean, deviation and correlation, plus what the finite
    # steps leave: under 6% of a standard deviation for the first-order ones.
    bias = 0.06
    assert ((x_0.mean(0) - mean) / std).abs().max() < 4.5 * error + bias
    assert (x_0.std(0) / std - 1).abs().max() < 4.5 * error / math.sqrt(2) + bias
    off = torch.corrcoef(x_0.T) - torch.eye(len(mean))
    assert off.abs().max() < 4.5 * error


class Basis:
    """For every draw of noise a clip in which it is 1 and all others are 0, and one with none.

    On Gaussian data a sampler is linear in its noise: the first clip is its mean, and the squares
    of what the others add to that sum to its variance, without any chance.
    """

    def __init__(self, draws):
        self.shape, self.drawn, self.places = (1 + draws, *SHAPE), 0, {}

    def __call__(self):
        self.drawn += 1
        noise = torch.zeros(self.shape, dtype=torch.float64)
        noise[self.drawn] = 1
        return noise

    def between(self, start, end):
        if (start, end) not in self.places:
            self.places[start, end] = self()
        return self.places[start, end]


def bias(sampler, path):
    """Largest error of a mean, and of a standard deviation, in standard deviations of the data."""
    oracle, fresh = gaussian(path), Basis(sampler.steps + 2)
    x_0 = sampler(oracle, path, fresh(), fresh)
    mean, std = x_0[0], (x_0[1:] - x_0[0]).square().sum(0).sqrt()
    errors = (mean - oracle.means[0]) / oracle.stds[0], std / oracle.stds[0] - 1
    return [error.abs().max().item() for error in errors]


WIDE = LogSnrLinear(-18, 12)  # what the ends of the grid leave out is below 2e-4
LAWS = {
    "ddim_eta_1": (partial(DDIM, eta=1), 1, 0.1),
    "ddim_eta_0.3": (partial(DDIM, eta=0.3), 1, 0.06),
    "euler_maruyama": (EulerMaruyama, 1, 0.06),
    "heun_churn": (partial(HeunChurn, churn=10, gain=1), 2, 0.02),
    "dpmpp_2m_sde": (DPMpp2MSDE, 2, 0.01),
    "dpmpp_2m_sde_eta_0.5": (partial(DPMpp2MSDE, eta=0.5), 2, 0.01),
    "dpmpp_3m_sde": (DPMpp3MSDE, 2, 0.01),
    "sde": (Sde, 2, 0.01),
}


@pytest.mark.parametrize(("sampler", "order", "most"), LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("path", [Cosine(), VarianceExploding()], ids=names)
def test_order_in_law(path, sampler, order, most):
    """Mean and variance converge to the data's, exactly and at the weak order."""
    coarse, fine = (bias(sampler(steps, WIDE), path) for steps in (70, 140))
    assert fine[0] < most
    assert fine[1] < most
    assert fine[0] < 0.6 * coarse[0] or fine[0] < 2e-4
    measured = math.log2(coarse[1] / fine[1])
    assert order - 0.15 < measured < order + 0.6


@pytest.mark.parametrize("sampler", [DDIM, DPMpp2MSDE, DPMpp3MSDE, EulerMaruyama, Sde])
def test_more_steps_refine_one_and_the_same_clip(sampler):
    """The Brownian path belongs to the seed, so samples converge, not only their law."""
    path = Rectified()
    mixture = gaussian(path, 3)
    extra = {"eta": 1} if sampler is DDIM else {}
    fresh = Batch(64)
    noise = fresh()
    runs = [
        sampler(steps, LogSnrLinear(-9, 7), **extra)(mixture, path, noise, Batch(64))
        for steps in (40, 160, 320)
    ]
    # The median over clips: one that ends in another part of the mixture would decide a mean.
    coarse, fine = (
        (run - runs[-1]).square().flatten(1).mean(1).median().sqrt() for run in runs[:2]
    )
    assert fine < 0.6 * coarse  # strong order 1/2 at least: a half or less
    assert fine < 0.1


def test_mixture_weights_come_out_right():
    """A stochastic and a deterministic sampler both reach the parts of a mixture as often."""
    path = Cosine()
    mixture = gaussian(path, 2)
    mixture.means = 4 * torch.tensor([-1.0, 1.0], dtype=torch.float64)[:, None, None, None]
    mixture.means = mixture.means.expand(2, *SHAPE)
    for sampler in (DPMpp2MSDE(40, SPACING), DPMpp2M(40, SPACING)):
        fresh = Batch()
        x_0 = sampler(mixture, path, fresh(), fresh)
        share = (x_0.mean((1, 2, 3)) > 0).double().mean().item()
        assert share == pytest.approx(2 / 3, abs=4.5 * math.sqrt(2 / 9 / CLIPS))


def test_ddim_between_euler_and_ddpm():
    path, fresh = Cosine(), Batch(4)
    oracle, noise = gaussian(path), fresh()
    assert torch.equal(
        DDIM(7, SPACING, eta=0)(oracle, path, noise), Euler(7, SPACING)(oracle, path, noise)
    )
    # eta 1 is the posterior of Ho et al. 2020, eqs. 6 and 7, written with their betas.
    t, s = torch.tensor([0.7, 0.4], dtype=torch.float64)
    a, b = path(t), path(s)
    ratio = (a.alpha / b.alpha) ** 2  # their alpha_t
    x_0 = oracle(a.sigma * noise, t.expand(4)).x_0
    mean = (
        b.alpha * (1 - ratio) / a.sigma**2 * x_0
        + ratio.sqrt() * b.sigma**2 / a.sigma**2 * a.sigma * noise
    )
    spread = (b.sigma**2 / a.sigma**2 * (1 - ratio)).sqrt()
    ours = DDIM(1, Listed([0.7, 0.4]), eta=1)(oracle, path, noise, fresh)
    low, high = (place(at) for at in points(path, t.new_tensor([0.4, 0.7])))
    torch.testing.assert_close(ours, mean + spread * fresh.between(low, high), rtol=1e-9, atol=1e-9)


def test_churn_is_algorithm_2_of_karras():
    path, fresh, reference = VarianceExploding(), Batch(4), Batch(4)
    oracle, noise = gaussian(path), torch.randn(4, *SHAPE, dtype=torch.float64)
    steps, churn, low, high, gain = 12, 10.0, 0.05, 50.0, 1.003
    sampler = HeunChurn(steps, Karras(), churn, low, high, gain)
    ours = sampler(oracle, path, noise, fresh)

    def slope(x, t):
        return (x - oracle(x, t.expand(4)).x_0) / t

    ramp = torch.arange(steps, dtype=torch.float64) / (steps - 1)
    times = (80 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    times = torch.cat([times, times.new_zeros(1)])
    x = times[0] * noise
    for t, s in pairwise(times):
        gamma = min(churn / steps, math.sqrt(2) - 1) if low <= t <= high else 0.0
        t_hat = t + gamma * t
        if gamma > 0:
            x = x + (t_hat**2 - t**2).sqrt() * gain * reference()
        d = slope(x, t_hat)
        landed = x + (s - t_hat) * d
        if s > 0:
            landed = x + (s - t_hat) * (d + slope(landed, s)) / 2
        x = landed
    torch.testing.assert_close(ours, x, rtol=1e-9, atol=1e-9)


def test_pingpong_renoises_its_own_estimate():
    path, fresh, again = Rectified(), Batch(3), Batch(3)
    oracle, noise = gaussian(path), torch.randn(3, *SHAPE, dtype=torch.float64)
    ours = PingPong(2, Listed([1.0, 0.6, 0.0]))(oracle, path, noise, fresh)
    one = torch.ones(3, dtype=torch.float64)
    z = 0.4 * oracle(noise, one).x_0 + 0.6 * again()
    torch.testing.assert_close(ours, oracle(z, 0.6 * one).x_0)
    # The oracle's last x_0 is a mean: narrower than the data, as the docstring says.
    wide = Batch()
    x_0 = PingPong(4)(oracle, path, wide(), wide)
    assert (x_0.std(0) < oracle.stds[0]).all()
