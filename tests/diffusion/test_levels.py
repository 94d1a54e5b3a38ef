"""Laws of t against their distribution functions."""

import math

import pytest
import torch

from glissando.diffusion.levels import (
    LogitNormal,
    LogNormal,
    LogSnrUniform,
    Shifted,
    Uniform,
)
from glissando.diffusion.path_exploding import VarianceExploding
from glissando.diffusion.path_rectified import Rectified
from glissando.errors import UserError

N = 4096


def normal(x):
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def u(n=N):
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def logit(t):
    return (t / (1 - t)).log()


@pytest.mark.parametrize(
    ("levels", "distribution"),
    [
        (Uniform(0.1, 0.6), lambda t: (t - 0.1) / 0.5),
        (LogitNormal(0.5, 0.8), lambda t: normal((logit(t) - 0.5) / 0.8)),
        (LogNormal(-1.2, 1.2), lambda t: normal((logit(t) + 1.2) / 1.2)),
        (LogSnrUniform(-9, 7), lambda t: (7 + 2 * logit(t)) / 16),
    ],
)
def test_laws_on_the_rectified_path(levels, distribution):
    # sigma / alpha = t / (1 - t) there, so log(sigma / alpha) = logit(t).
    t = levels(Rectified(), u())
    torch.testing.assert_close(distribution(t), u(), rtol=1e-9, atol=1e-9)


def test_truncation_renormalizes():
    levels = LogitNormal(0.3, 1.1, low=0.2, high=0.7)
    t = levels(Rectified(), u())
    assert t.min() >= 0.2
    assert t.max() <= 0.7
    low, high = (
        normal((logit(torch.tensor(x, dtype=torch.float64)) - 0.3) / 1.1) for x in (0.2, 0.7)
    )
    expected = (normal((logit(t) - 0.3) / 1.1) - low) / (high - low)
    torch.testing.assert_close(expected, u(), rtol=1e-9, atol=1e-9)


def test_edm_law_is_a_log_normal_sigma():
    sigma = LogNormal(-1.2, 1.2)(VarianceExploding(), u()).log()
    assert sigma.mean().item() == pytest.approx(-1.2, abs=1e-3)
    assert sigma.std().item() == pytest.approx(1.2, abs=5e-3)


def test_uniform_is_of_the_angle_on_the_exploding_path():
    sigma = Uniform()(VarianceExploding(80.0), u(5))
    torch.testing.assert_close(sigma, torch.tan(u(5) * math.atan(80)))


@pytest.mark.parametrize("stratified", [False, True])
def test_draws_follow_the_law_and_strata_are_filled(stratified):
    generator = torch.Generator().manual_seed(0)
    t = Uniform(stratified=stratified).draw(Rectified(), N, generator)
    assert t.shape == (N,)
    assert t.dtype == torch.float32
    # Kolmogorov-Smirnov at 1e-4: 2.2 / sqrt(N); stratified it cannot exceed 1 / N.
    worst = (t.sort().values - u().float()).abs().max().item()
    assert worst < (1.01 / N if stratified else 2.2 / math.sqrt(N))
    if stratified:
        assert not (t.diff() > 0).all()  # clip 0 does not always get the cleanest level
    again = Uniform(stratified=stratified).draw(Rectified(), N, generator.manual_seed(0))
    assert torch.equal(t, again)


def test_grid_is_the_middles_of_the_strata():
    torch.testing.assert_close(
        Uniform().grid(Rectified(), 4), torch.tensor([0.125, 0.375, 0.625, 0.875])
    )


def test_length_shift_is_stable_audios():
    length = torch.tensor([256.0, 1024, 4096])
    t = torch.tensor([0.3, 0.3, 0.3])
    mu = -(0.5 + (1.15 - 0.5) * (length - 256) / (4096 - 256))
    expected = 1 - mu.exp() / (mu.exp() + (1 / (1 - t) - 1))  # stable-audio-tools
    ours = Shifted(Uniform(), 0.5, 1.15, 256, 4096)(Rectified(), t, length)
    torch.testing.assert_close(ours, expected)
    with pytest.raises(UserError, match="objective/levels"):
        Shifted(Uniform())(Rectified(), t)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Uniform(0.5, 0.2),
        lambda: Uniform(0, 2),
        lambda: LogitNormal(std=0),
        lambda: LogNormal(std=-1),
        lambda: LogSnrUniform(1, -1),
        lambda: Shifted(Uniform(), min_length=10, max_length=10),
    ],
)
def test_bad_settings_name_their_flag(make):
    with pytest.raises(UserError, match=r"objective\.levels"):
        make()


def test_float32_extremes_are_finite():
    edge = torch.tensor([1e-6, 1 - 1e-6])
    for levels in (Uniform(), LogitNormal(), LogNormal(), LogSnrUniform()):
        for path in (Rectified(), VarianceExploding()):
            t = levels(path, edge)
            assert t.isfinite().all()
            assert (t > 0).all()
