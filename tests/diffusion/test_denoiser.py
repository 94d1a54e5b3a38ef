"""The loss against formulas written out, masks, dtypes, and that it trains to the truth."""

import math

import pytest
import torch

from glissando.condition import Condition
from glissando.diffusion.denoiser import Denoiser, mean_over_real
from glissando.diffusion.levels import Uniform
from glissando.diffusion.parameterization import EDM, X0, Epsilon, V, Velocity
from glissando.diffusion.path import mix
from glissando.diffusion.path_cosine import Cosine
from glissando.diffusion.path_exploding import VarianceExploding
from glissando.diffusion.path_rectified import Rectified
from glissando.diffusion.weighting import EDMWeight, Learned, MinSNR, Sigmoid, Unit
from glissando.errors import UserError


class Affine(torch.nn.Module):
    """F = gain z + noise: enough to see what the network was given."""

    def __init__(self, gain=0.7):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))

    def forward(self, z, noise, condition, mask=None):
        return self.gain * z + noise[:, None, None, None]


def data(n=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x_0, eps = (torch.randn(n, 2, 3, 5, generator=generator, dtype=dtype) for _ in range(2))
    return x_0, eps, torch.linspace(0.1, 0.9, n, dtype=dtype)


def loss(weighting, parameterization, path):
    x_0, eps, t = data()
    denoiser = Denoiser(Affine(), path, parameterization, weighting).double()
    z = mix(path(t), x_0, eps)
    error = ((denoiser(z, t, Condition()).x_0 - x_0) ** 2).mean((1, 2, 3))
    return denoiser.loss(x_0, eps, t, Condition()), error, path(t)


@pytest.mark.parametrize("parameterization", [Epsilon(), X0(), V(), Velocity(), EDM()])
@pytest.mark.parametrize("path", [Cosine(), Rectified(), VarianceExploding()])
def test_a_weighting_means_the_same_for_every_parameterization(path, parameterization):
    snr = path(data()[2]).log_snr.exp()
    for weighting, w in (
        (MinSNR(5.0), snr.clamp(max=5)),
        (EDMWeight(0.5), snr + 4),
        (EDMWeight(0.5), (1 / snr + 0.25) / (1 / snr * 0.25)),  # (sigma² + sd²) / (sigma sd)²
        (Sigmoid(-1.0), snr * torch.sigmoid(-1 - snr.log())),  # on the eps error
    ):
        ours, error, _ = loss(weighting, parameterization, path)
        torch.testing.assert_close(ours, w * error, rtol=1e-9, atol=1e-12)
    ours, error, c = loss(Unit(), parameterization, path)
    torch.testing.assert_close(ours, error / parameterization.scalings(c).out ** 2)


def test_min_snr_is_that_of_the_paper_on_v_and_eps():
    snr = Cosine()(data()[2]).log_snr.exp()
    x_0, eps, t = data()
    for parameterization, factor in ((V(), snr + 1), (Epsilon(), snr)):
        denoiser = Denoiser(Affine(), Cosine(), parameterization, MinSNR(5.0)).double()
        ours = denoiser.loss(x_0, eps, t, Condition())
        plain = denoiser.errors(x_0, eps, t, Condition())
        torch.testing.assert_close(ours, snr.clamp(max=5) / factor * plain)


def test_padding_counts_for_nothing():
    x_0, eps, t = data()
    mask = torch.arange(5) < torch.tensor([5, 4, 3, 2, 1, 0])[:, None]
    denoiser = Denoiser(Affine(), Rectified(), Velocity()).double()
    whole = denoiser.loss(x_0, eps, t, Condition(), mask)
    for clip in range(5):
        cut = [value[clip : clip + 1, ..., : 5 - clip] for value in (x_0, eps)]
        alone = denoiser.loss(*cut, t[clip : clip + 1], Condition())
        torch.testing.assert_close(whole[clip : clip + 1], alone)
    assert whole[5] == 0
    square = torch.where(mask[:, None, None], 1.0, math.nan).expand(6, 2, 3, 5)
    assert mean_over_real(square, mask)[:5].eq(1).all()


def test_learned_uncertainty_finds_the_loss():
    """The minimum of loss e^-u + u is u = log loss: there the balanced loss's gradient is 1."""
    weighting = Learned(Unit())
    log_snr = torch.linspace(-8, 8, 64)
    true = (1 + 0.5 * torch.sin(log_snr / 2)).exp()
    assert torch.equal(weighting.balance(true, log_snr), true)  # u = 0 at the start
    optimizer = torch.optim.Adam(weighting.parameters(), 0.02)
    for _ in range(400):
        optimizer.zero_grad()
        weighting.balance(true, log_snr).mean().backward()
        optimizer.step()
    assert (weighting.uncertainty(log_snr) - true.log()).abs().max() < 0.1


def test_making_a_weighting_twice_gives_the_same_features():
    assert torch.equal(Learned(Unit()).freqs, Learned(Unit()).freqs)


def test_half_precision_networks_do_not_lower_the_sum():
    class Half(Affine):
        def forward(self, z, noise, condition, mask=None):
            return super().forward(z, noise, condition).bfloat16()

    x_0, eps, t = data(dtype=torch.float32)
    estimate = Denoiser(Half(), Rectified(), Velocity())(x_0, t, Condition())
    assert estimate.x_0.dtype == torch.float32
    # t may come in float64 from the host; the answer stays in z's dtype.
    estimate = Denoiser(Half(), Rectified(), Velocity())(x_0, t.double(), Condition())
    assert estimate.eps.dtype == torch.float32
    assert Denoiser(Half(), Rectified(), V()).loss(x_0, eps, t, Condition()).dtype == torch.float32


def test_loss_at_the_ends_is_finite():
    x_0, eps, _ = data(dtype=torch.float32)
    for path in (Cosine(), Rectified()):
        for parameterization in (Epsilon(), X0(), V(), Velocity(), EDM()):
            for weighting in (Unit(), MinSNR(), Sigmoid()):
                denoiser = Denoiser(Affine(), path, parameterization, weighting)
                ends = torch.tensor([0.0, 1.0, 1e-6, 1 - 1e-6, 1e-7, 1 - 1e-7])
                assert denoiser.loss(x_0, eps, ends, Condition()).isfinite().all()


def test_training_finds_the_posterior_mean():
    """A linear network at one level learns a Gaussian's alpha s² z / (alpha² s² + sigma²)."""

    class Linear(Affine):
        def forward(self, z, noise, condition, mask=None):
            return self.gain * z

    generator = torch.Generator().manual_seed(0)
    level, std = 0.4, 0.5
    denoiser = Denoiser(Linear(0.0), Rectified(), Velocity())
    optimizer = torch.optim.Adam(denoiser.parameters(), 0.05)
    t = torch.full((256,), level)
    for _ in range(200):
        x_0, eps = torch.randn(2, 256, 1, 1, 8, generator=generator)
        optimizer.zero_grad()
        denoiser.loss(std * x_0, eps, t, Condition()).mean().backward()
        optimizer.step()
    z = torch.ones(1, 1, 1, 1)
    ours = denoiser(z, t[:1], Condition()).x_0.item()
    assert ours == pytest.approx(0.6 * 0.25 / (0.36 * 0.25 + 0.16), abs=0.02)


@pytest.mark.parametrize("make", [lambda: MinSNR(0), lambda: EDMWeight(-1)], ids=["min_snr", "edm"])
def test_bad_settings_name_their_flag(make):
    with pytest.raises(UserError, match=r"objective\.weighting"):
        make()


def test_levels_meet_the_denoiser_at_every_legal_t():
    t = Uniform(stratified=True).draw(Cosine(), 4096, torch.Generator().manual_seed(1))
    s = Epsilon().scalings(Cosine()(t.clamp(*Epsilon().limits(Cosine()))))
    assert s.skip.max() <= 200.1
