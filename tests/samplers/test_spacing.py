"""Grids against their published formulas."""

import math

import pytest
import torch

from glissando.diffusion.path_beta import DiscreteBeta, LinearBeta
from glissando.diffusion.path_exploding import VarianceExploding
from glissando.diffusion.path_rectified import Rectified
from glissando.errors import UserError
from glissando.samplers.spacing import (
    Exponential,
    Karras,
    Listed,
    LogSnrLinear,
    Polynomial,
    Shifted,
)

ALL = [
    Polynomial(),
    Polynomial(2),
    LogSnrLinear(),
    Karras(),
    Exponential(),
    Exponential(rho=0.5),
    Shifted(Polynomial(), 3),
    Shifted(Karras(), 0.5),
]


@pytest.mark.parametrize("spacing", ALL)
def test_ends_on_data_and_falls_all_the_way(path, spacing):
    for steps in (1, 2, 3, 50):
        times = spacing(path, steps)
        assert times.shape == (steps + 1,)
        assert times.dtype == torch.float64
        assert times[-1] == 0
        assert (times.diff() < 0).all()


def test_uniform_and_quadratic():
    assert Polynomial()(Rectified(), 4).tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert Polynomial(2)(Rectified(), 4).tolist() == [1, 0.5625, 0.25, 0.0625, 0]
    assert Polynomial(1, start=0.8, stop=0.4)(Rectified(), 2).tolist() == pytest.approx(
        [0.8, 0.6, 0.4]
    )
    sigma = Polynomial()(VarianceExploding(80), 4)  # uniform in the angle of (alpha, sigma)
    assert (sigma.atan() / math.atan(80)).tolist() == pytest.approx([1, 0.75, 0.5, 0.25, 0])


def test_karras_and_exponential_are_k_diffusions():
    ramp = torch.linspace(0, 1, 10, dtype=torch.float64)
    low, high = 0.1 ** (1 / 7), 50 ** (1 / 7)
    sigmas = (high + ramp * (low - high)) ** 7
    path = VarianceExploding()
    torch.testing.assert_close(Karras(0.1, 50)(path, 10)[:-1], sigmas)
    sigmas = torch.exp(torch.linspace(math.log(50), math.log(0.1), 10, dtype=torch.float64))
    torch.testing.assert_close(Exponential(0.1, 50)(path, 10)[:-1], sigmas)
    ramp = ramp.flip(0) ** 2.5
    sigmas = torch.exp(ramp * (math.log(50) - math.log(0.1)) + math.log(0.1))
    torch.testing.assert_close(Exponential(0.1, 50, 2.5)(path, 10)[:-1], sigmas)


def test_ranges_mean_the_same_noise_on_every_path(path):
    c = path(Karras(0.05, 20)(path, 12)[:-1])
    ratio = c.sigma / c.alpha
    assert ratio[0].item() == pytest.approx(20)
    assert ratio[-1].item() == pytest.approx(0.05)
    levels = path(LogSnrLinear(-6, 6, to_data=False)(path, 12)).log_snr
    torch.testing.assert_close(levels, torch.linspace(-6, 6, 13, dtype=torch.float64))


@pytest.mark.parametrize("steps", [1, 2, 50, 500])
def test_log_snr_starts_where_a_path_ends_before_minus_10(path, steps):
    for on in (path, DiscreteBeta.scaled_linear(), DiscreteBeta.linear(1e-4, 0.02)):
        end = on(torch.tensor(on.end, dtype=torch.float64)).log_snr.item()
        first = on(LogSnrLinear()(on, steps)[:1]).log_snr.item()
        assert first == pytest.approx(max(-10, end))


def test_shift_is_stable_diffusion_3s_on_the_rectified_path(path):
    t = Polynomial()(Rectified(), 10)
    torch.testing.assert_close(
        Shifted(Polynomial(), 3.0)(Rectified(), 10), 3 * t / (1 + 2 * t), rtol=1e-12, atol=0
    )
    plain, shifted = Karras(0.05, 5)(path, 6)[:-1], Shifted(Karras(0.05, 5), 2.0)(path, 6)[:-1]
    r, shifted_r = (path(times).sigma / path(times).alpha for times in (plain, shifted))
    torch.testing.assert_close(shifted_r, 2 * r / (1 + r / r[0]))


@pytest.mark.parametrize(
    ("make", "flag"),
    [
        (lambda: Polynomial(0), "power"),
        (lambda: Polynomial(1, 0.2, 0.5), "stop"),
        (lambda: LogSnrLinear(3, -3), "low"),
        (lambda: Karras(5, 1), "sigma_min"),
        (lambda: Exponential(0, 1), "sigma_min"),
        (lambda: Shifted(Polynomial(), 0), "factor"),
        (lambda: Polynomial()(Rectified(), 0), r"sampler\.steps"),
        (lambda: Listed([1.0, 0.5, 0.0])(Rectified(), 4), r"sampler\.steps=2"),
        (lambda: Listed([2.0, 0.0])(Rectified(), 1), "outside this path"),
        (lambda: Listed([0.2, 0.5, 0.0])(Rectified(), 2), "distinct levels"),
        # sigma / alpha of this path ends at 191.
        (lambda: Exponential(0.3, 5000)(LinearBeta(), 50), r"path ends at -10\.5 \(190"),
        (lambda: Exponential(0.3, 500)(LinearBeta(), 3), r"\.sigma_max"),  # one level beyond
        (lambda: LogSnrLinear(-12)(DiscreteBeta.scaled_linear(), 1), r"-8\.857 .*spacing\.low"),
    ],
)
def test_bad_settings_name_their_flag(make, flag):
    with pytest.raises(UserError, match=flag):
        make()
