"""Paths against their definitions, autograd and the closed-form score of a Gaussian mixture."""

import math

import pytest
import torch

from glissando.diffusion.oracle import GaussianMixture
from glissando.diffusion.path import flow, mix, score, spread
from glissando.diffusion.path_beta import DiscreteBeta, LinearBeta
from glissando.diffusion.path_cosine import Cosine
from glissando.diffusion.path_exploding import VarianceExploding
from glissando.diffusion.path_rectified import Rectified
from glissando.errors import UserError


def test_derivatives_are_those_of_autograd(path, times):
    t = times.clone().requires_grad_()
    c = path(t)
    for value, given in ((c.alpha, c.d_alpha), (c.sigma, c.d_sigma)):
        if value.requires_grad:
            (slope,) = torch.autograd.grad(value.sum(), t, retain_graph=True, allow_unused=True)
            if slope is not None:
                torch.testing.assert_close(given.detach(), slope, rtol=1e-9, atol=1e-12)
    # A finite difference as well: it also sees the paths whose alpha is constant.
    h = 1e-6 * times
    near = [path(times + h), path(times - h)]
    rise = (near[0].alpha - near[1].alpha) / (2 * h)
    torch.testing.assert_close(c.d_alpha.detach(), rise, rtol=1e-6, atol=1e-6)


def test_log_snr_is_that_of_alpha_and_sigma_and_t_inverts_it(path, times):
    c = path(times)
    torch.testing.assert_close(c.log_snr, 2 * (c.alpha / c.sigma).log(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(path.t(c.log_snr), times, rtol=1e-10, atol=0)
    assert (c.log_snr.diff() < 0).all()


def test_the_data_end_is_exact(path):
    c = path(torch.zeros(1))
    assert (c.alpha.item(), c.sigma.item(), c.log_snr.item()) == (1, 0, math.inf)
    assert path.t(torch.tensor([math.inf])).item() == 0
    assert torch.isfinite(c.noise).all()
    assert path.clock(torch.tensor(0.0)) == 0
    assert path.clock(torch.tensor(1.0, dtype=torch.float64)) == pytest.approx(path.end)


@pytest.mark.parametrize("path", [Cosine(), Rectified()])
def test_the_noise_end_of_straight_and_cosine_paths_is_pure(path):
    c = path(torch.ones(1))
    assert (c.alpha.item(), c.sigma.item(), c.log_snr.item()) == (0, 1, -math.inf)
    assert path.t(torch.tensor([-math.inf])).item() == 1


@pytest.mark.parametrize("path", [Cosine(), LinearBeta(), DiscreteBeta.linear(1e-4, 0.02)])
def test_variance_preserving(path):
    c = path(torch.linspace(0, 1, 33, dtype=torch.float64))
    torch.testing.assert_close(c.alpha**2 + c.sigma**2, torch.ones(33, dtype=torch.float64))


def test_forward_sde_has_its_published_coefficients():
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    beta = 1.5 + 18 * t  # VP (Song et al. 2021, eq. 11): f = -beta/2, g² = beta
    c = LinearBeta()(t)
    torch.testing.assert_close(c.drift, -beta / 2)
    torch.testing.assert_close(c.diffusion, beta)
    c = VarianceExploding()(t)  # VE: f = 0, g² = d sigma² / dt = 2 t
    torch.testing.assert_close(c.drift, torch.zeros_like(t))
    torch.testing.assert_close(c.diffusion, 2 * t)
    c = Rectified()(t)  # f = -1/(1-t), g² = 2 t + 2 t²/(1-t) = 2 t/(1-t)
    torch.testing.assert_close(c.drift, -1 / (1 - t))
    torch.testing.assert_close(c.diffusion, 2 * t / (1 - t))


def test_score_and_flow_are_the_chapters(path, times):
    generator = torch.Generator().manual_seed(3)
    shape, options = (3, 2, 1, 4), {"dtype": torch.float64, "generator": generator}
    oracle = GaussianMixture(
        path,
        torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64),
        torch.randn(shape, **options),
        0.2 + torch.rand(shape, **options),
    )
    c = path(times)
    x_0 = oracle.sample(len(times), generator)
    z = mix(c, x_0, torch.randn(x_0.shape, **options)).requires_grad_()
    estimate = oracle(z, times)
    (true,) = torch.autograd.grad(oracle.log_prob(z, times).sum(), z)
    ours = score(c, estimate.x_0, z)
    torch.testing.assert_close(ours, true, rtol=1e-7, atol=1e-7)
    # Probability flow: dz/dt = f z - g² score / 2.
    expected = spread(c.drift, z) * z - spread(c.diffusion, z) * true / 2
    torch.testing.assert_close(flow(c, estimate.x_0, estimate.eps), expected, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(mix(c, *estimate), z, rtol=1e-9, atol=1e-9)


def test_discrete_grid_is_the_cumulative_product():
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2
    product = (1 - betas).cumprod(0)
    t = (torch.arange(1000, dtype=torch.float64) + 1) / 1000
    c = DiscreteBeta.scaled_linear(0.0015, 0.0195, 1000)(t)
    torch.testing.assert_close(c.alpha**2, product, rtol=1e-10, atol=0)


def test_float32_keeps_its_digits_near_the_data(path):
    t = torch.tensor([1e-5, 1e-4, 1e-3])
    exact = path(t.double())
    for ours, true in zip(path(t)[1:], exact[1:], strict=True):
        torch.testing.assert_close(ours.double(), true, rtol=3e-5, atol=3e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: VarianceExploding(end=0),
        lambda: LinearBeta(2, 1),
        lambda: DiscreteBeta([0.1, 1.5]),
        lambda: DiscreteBeta([]),
    ],
)
def test_bad_settings_name_their_flag(make):
    with pytest.raises(UserError, match=r"objective\.path"):
        make()
