"""Parameterizations against each other, Karras et al. 2022 and the limits of float32."""

import pytest
import torch

from glissando.condition import Condition
from glissando.diffusion.denoiser import Denoiser
from glissando.diffusion.levels import LogSnrUniform, Uniform
from glissando.diffusion.objective import Objective
from glissando.diffusion.oracle import GaussianMixture
from glissando.diffusion.parameterization import EDM, X0, Epsilon, V, Velocity
from glissando.diffusion.path import mix
from glissando.diffusion.path_beta import LinearBeta
from glissando.diffusion.path_cosine import Cosine
from glissando.diffusion.path_exploding import VarianceExploding
from glissando.diffusion.path_rectified import Rectified
from glissando.errors import UserError
from glissando.samplers.euler import Euler
from glissando.samplers.heun import Heun
from glissando.samplers.spacing import LogSnrLinear

ALL = [Epsilon(), X0(), V(), Velocity(), EDM(), EDM(data_std=0.5)]
SHAPE = (2, 3, 1, 4)
OPTIONS = {"dtype": torch.float64}


def names(value):
    return type(value).__name__


def mixture(path):
    generator = torch.Generator().manual_seed(1)
    return GaussianMixture(
        path,
        torch.tensor([0.6, 0.4], **OPTIONS),
        torch.randn(SHAPE, generator=generator, **OPTIONS),
        0.3 + torch.rand(SHAPE, generator=generator, **OPTIONS),
    )


class Perfect(torch.nn.Module):
    """The network that a parameterization would have after infinite training.

    It sees only what a network sees (scaled z and the noise label) but is told t besides.
    """

    def __init__(self, path, parameterization):
        super().__init__()
        self.path, self.parameterization, self.oracle = path, parameterization, mixture(path)
        self.t = None

    def forward(self, z, noise, condition, mask=None):
        c = self.path(self.t)
        scalings = self.parameterization.scalings(c)
        torch.testing.assert_close(noise, scalings.noise)
        z = z / scalings.inp[:, None, None, None]
        return self.parameterization.target(c, *self.oracle(z, self.t))


def perfect(path, parameterization):
    denoiser = Denoiser(Perfect(path, parameterization), path, parameterization)

    def denoise(z, t):
        denoiser.network.t = t.clamp(*denoiser.limits)
        return denoiser(z, t, Condition())

    return denoise


@pytest.mark.parametrize("parameterization", ALL, ids=names)
def test_denoiser_returns_the_posterior_mean(path, times, parameterization):
    times = times.clamp(*parameterization.limits(path))
    oracle = mixture(path)
    generator = torch.Generator().manual_seed(2)
    x_0 = oracle.sample(len(times), generator)
    z = mix(path(times), x_0, torch.randn(x_0.shape, generator=generator, **OPTIONS))
    ours, true = perfect(path, parameterization)(z, times), oracle(z, times)
    # z is up to 80 on the exploding path and x_0 a difference of such numbers.
    scale = 1e-14 * max(1.0, float(z.abs().max())) * 200
    torch.testing.assert_close(ours.x_0, true.x_0, rtol=1e-12, atol=scale)
    torch.testing.assert_close(ours.eps, true.eps, rtol=1e-12, atol=scale)


@pytest.mark.parametrize("sampler", [Euler, Heun])
def test_samples_agree_to_1e_12(path, sampler):
    run = sampler(8, LogSnrLinear(-7, 7))
    noise = torch.randn(3, *SHAPE[1:], generator=torch.Generator().manual_seed(5), **OPTIONS)
    expected = run(mixture(path), path, noise)
    for parameterization in ALL:
        ours = run(perfect(path, parameterization), path, noise)
        assert (ours - expected).abs().max() < 1e-12


@pytest.mark.parametrize("parameterization", ALL, ids=names)
def test_target_gives_back_data_and_noise(path, times, parameterization):
    times = times.clamp(*parameterization.limits(path))
    c = path(times)
    shape = (len(times), *SHAPE[1:])
    generator = torch.Generator().manual_seed(3)
    x_0, eps = (torch.randn(shape, generator=generator, **OPTIONS) for _ in range(2))
    s = [field[:, None, None, None] for field in parameterization.scalings(c)]
    z, target = mix(c, x_0, eps), parameterization.target(c, x_0, eps)
    torch.testing.assert_close(s[0] * z + s[1] * target, x_0, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(s[4] * z + s[5] * target, eps, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("parameterization", ALL, ids=names)
def test_both_ends_are_finite_in_float32(path, parameterization):
    ends = torch.tensor(parameterization.limits(path)).clamp(max=path.end)
    c = path(ends)
    assert all(field.isfinite().all() for field in parameterization.scalings(c))
    ones = torch.ones(2, *SHAPE[1:])
    assert parameterization.target(c, ones, ones).isfinite().all()


def test_edm_is_table_1_of_karras():
    sigma, std = torch.tensor([0.002, 0.1, 1, 80], **OPTIONS), 0.5
    s = EDM(std).scalings(VarianceExploding()(sigma))
    torch.testing.assert_close(s.skip, std**2 / (sigma**2 + std**2))
    torch.testing.assert_close(s.out, sigma * std / (sigma**2 + std**2).sqrt())
    torch.testing.assert_close(s.inp, 1 / (sigma**2 + std**2).sqrt())
    torch.testing.assert_close(s.noise, sigma.log() / 4)


def test_v_and_velocity_are_as_defined():
    t = torch.tensor([0.25, 0.75], **OPTIONS)
    x_0, eps = torch.full((2, 1, 1, 1), 2.0, **OPTIONS), torch.full((2, 1, 1, 1), 3.0, **OPTIONS)
    c = Cosine()(t)
    v = c.alpha * 3 - c.sigma * 2
    torch.testing.assert_close(V().target(c, x_0, eps).flatten(), v)
    # On the cosine path velocity is v but for the quarter turn's length.
    torch.testing.assert_close(
        Velocity().target(c, x_0, eps).flatten(), v * torch.pi / 2, rtol=1e-12, atol=0
    )
    u = Velocity().target(Rectified()(t), x_0, eps)
    torch.testing.assert_close(u, eps - x_0)


def test_velocity_keeps_float32_digits_where_division_would_not():
    c = Rectified()(torch.tensor([1e-7]))
    x_0, eps = torch.full((1, 1, 1, 1), 0.3), torch.full((1, 1, 1, 1), 1.7)
    assert Velocity().target(c, x_0, eps).item() == pytest.approx(1.4, rel=1e-6)


def test_inputs_have_unit_variance_on_the_exploding_path_only_where_scaled():
    s = X0().scalings(VarianceExploding()(torch.tensor([3.0], **OPTIONS)))
    assert s.inp.item() == pytest.approx(10**-0.5)
    s = V().scalings(Rectified()(torch.tensor([0.5], **OPTIONS)))
    assert s.inp.item() == 1


def objective(path, parameterization):
    return Objective(path, parameterization, Uniform())


def test_undefined_ends_are_capped_and_explained():
    for path in (Cosine(), Rectified()):
        (note,) = objective(path, Epsilon()).notes()
        assert "undefined at t = 1" in note
        assert "objective/parameterization=v" in note
        high = Epsilon().limits(path)[1]
        c = path(torch.tensor([high], **OPTIONS))
        assert (c.sigma / c.alpha).item() == pytest.approx(200)
    (note,) = objective(LinearBeta(), Velocity()).notes()
    assert "infinite at t = 0" in note
    for sound in (
        objective(LinearBeta(), Epsilon()),
        objective(VarianceExploding(), Epsilon()),
        objective(Cosine(), V()),
        objective(Rectified(), Velocity()),
        objective(VarianceExploding(), EDM()),
    ):
        assert sound.notes() == []


def test_levels_beyond_the_end_of_a_path_are_told():
    low = LogSnrUniform(-12, 8)
    (note,) = Objective(LinearBeta(), V(), low).notes()  # which ends at log-SNR -10.5
    assert "objective.levels asks in 7.5% of draws for more noise than the LinearBeta path" in note
    assert Objective(Cosine(), V(), low).notes() == []
    assert Objective(VarianceExploding(), EDM(), low).notes() == []


def test_epsilon_samples_from_pure_noise_on_a_capped_path():
    path = Cosine()
    noise = torch.randn(4, *SHAPE[1:], generator=torch.Generator().manual_seed(0), **OPTIONS)
    capped = Euler(400)(perfect(path, Epsilon()), path, noise)
    exact = Euler(400)(mixture(path), path, noise)
    # Only the first step, at t = 1, is evaluated elsewhere (at alpha = 1/200).
    assert (capped - exact).abs().max() < 0.02


def test_data_std_must_be_positive():
    with pytest.raises(UserError, match="data_std"):
        EDM(0)
