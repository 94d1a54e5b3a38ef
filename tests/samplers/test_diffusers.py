"""The same trajectories as diffusers' schedulers, given the same estimates."""

import numpy as np
import pytest
import torch
from gaussians import SHAPE, gaussian

from glissando.diffusion.path import spread
from glissando.diffusion.path_beta import DiscreteBeta
from glissando.diffusion.path_exploding import VarianceExploding
from glissando.diffusion.path_rectified import Rectified
from glissando.samplers.ddim import DDIM
from glissando.samplers.dpmpp_2m import DPMpp2M, DPMpp2MSDE
from glissando.samplers.dpmpp_3m_sde import DPMpp3MSDE
from glissando.samplers.euler import Euler
from glissando.samplers.heun import Heun
from glissando.samplers.spacing import Listed
from glissando.samplers.unipc import UniPC

schedulers = pytest.importorskip("diffusers.schedulers")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
BETAS = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear"}
AUDIOLDM = DiscreteBeta.scaled_linear()
STEPS = 20


@pytest.fixture
def noise():
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


class Given:
    """Prepared noise, one piece a step, for samplers and schedulers alike."""

    def __init__(self):
        generator = torch.Generator().manual_seed(9)
        self.pieces = torch.randn(STEPS, 2, *SHAPE, generator=generator, dtype=torch.float64)
        self.at = -1

    def between(self, start, end):
        self.at += 1
        return self.pieces[self.at]


def close(ours, theirs):
    assert (ours - theirs).abs().max() / theirs.abs().max() < 1e-5


def vp_grid(scheduler):
    """The scheduler's sigmas as times of AudioLDM's path, and as a spacing.

    It then goes on in float64, so that its differences of float32 log-SNRs do not decide.
    """
    sigmas = scheduler.sigmas = scheduler.sigmas.double()
    times = AUDIOLDM.t(-2 * sigmas[:-1].log())
    return times, Listed([*times.tolist(), 0.0])


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim(noise, eta):
    theirs = schedulers.DDIMScheduler(
        **BETAS, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    theirs.set_timesteps(STEPS)
    times = (theirs.timesteps.double() + 1) / 1000
    oracle, fresh = gaussian(AUDIOLDM, 3), Given()
    spacing = Listed([*times.tolist(), 0.0])
    ours = DDIM(STEPS, spacing, eta)(oracle, AUDIOLDM, noise, fresh)
    z = spread(AUDIOLDM(times[:1]).sigma, noise) * noise
    for step, (number, t) in enumerate(zip(theirs.timesteps, times, strict=True)):
        eps = oracle(z, t.expand(2)).eps
        extra = {"variance_noise": fresh.pieces[step]} if step < STEPS - 1 else {}
        z = theirs.step(eps, number, z, eta=eta if extra else 0.0, **extra).prev_sample
    close(ours, z)


@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        (DPMpp2M, {}),
        (DPMpp2MSDE, {"algorithm_type": "sde-dpmsolver++"}),
        (lambda *a: DPMpp3MSDE(*a, eta=0, curvature=1), {"solver_order": 3}),
    ],
    ids=["2m", "2m_sde", "3m"],
)
def test_dpm_solver(noise, sampler, options, karras):
    theirs = schedulers.DPMSolverMultistepScheduler(
        **BETAS,
        **options,
        use_karras_sigmas=karras,
        final_sigmas_type="zero",
        timestep_spacing="linspace",
    )
    theirs.set_timesteps(STEPS)
    times, spacing = vp_grid(theirs)
    oracle, fresh = gaussian(AUDIOLDM, 3), Given()
    ours = sampler(STEPS, spacing)(oracle, AUDIOLDM, noise, fresh)
    z = spread(AUDIOLDM(times[:1]).sigma, noise) * noise
    for step, (number, t) in enumerate(zip(theirs.timesteps, times, strict=True)):
        eps = oracle(z, t.expand(2)).eps
        z = theirs.step(eps, number, z, variance_noise=fresh.pieces[step]).prev_sample.double()
    close(ours, z)


@pytest.mark.parametrize("order", [1, 2])
def test_unipc(noise, order):
    theirs = schedulers.UniPCMultistepScheduler(
        **BETAS, solver_order=order, final_sigmas_type="zero", timestep_spacing="leading"
    )
    theirs.set_timesteps(STEPS)
    times, spacing = vp_grid(theirs)
    oracle = gaussian(AUDIOLDM, 3)
    ours = UniPC(STEPS, spacing, order)(oracle, AUDIOLDM, noise)
    z = spread(AUDIOLDM(times[:1]).sigma, noise) * noise
    for number, t in zip(theirs.timesteps, times, strict=True):
        z = theirs.step(oracle(z, t.expand(2)).eps, number, z).prev_sample.double()
    close(ours, z)


def test_flow_match_euler(noise):
    theirs = schedulers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    theirs.set_timesteps(sigmas=np.linspace(1, 1 / STEPS, STEPS))
    times = theirs.sigmas.double()
    oracle = gaussian(Rectified(), 3)
    ours = Euler(STEPS, Listed(times.tolist()))(oracle, Rectified(), noise)
    z = noise
    for number, t in zip(theirs.timesteps, times[:-1], strict=True):
        estimate = oracle(z, t.expand(2))
        z = theirs.step(estimate.eps - estimate.x_0, number, z).prev_sample.double()
    close(ours, z)


@pytest.mark.parametrize(
    ("sampler", "name"),
    [(Euler, "EDMEulerScheduler"), (DPMpp2M, "EDMDPMSolverMultistepScheduler")],
)
def test_edm(noise, sampler, name):
    """Their step takes the raw network's output, so their preconditioning is compared as well."""
    from glissando.diffusion.parameterization import EDM

    path, edm = VarianceExploding(), EDM(0.5)
    theirs = getattr(schedulers, name)(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5)
    theirs.set_timesteps(STEPS)
    times = theirs.sigmas.double()
    oracle = gaussian(path, 3)
    ours = sampler(STEPS, Listed(times.tolist()))(oracle, path, noise)
    z = times[0] * noise
    for number, t in zip(theirs.timesteps, times[:-1], strict=True):
        scaled = theirs.scale_model_input(z, number)
        c = path(t.expand(2))
        torch.testing.assert_close(scaled, spread(edm.scalings(c).inp, z) * z, rtol=1e-5, atol=1e-5)
        output = edm.target(c, *oracle(z, t.expand(2)))
        z = theirs.step(output, number, z).prev_sample.double()
    close(ours, z)


def test_heun(noise):
    theirs = schedulers.HeunDiscreteScheduler(**BETAS, use_karras_sigmas=True)
    theirs.set_timesteps(STEPS)
    # Each inner sigma is there twice: once to predict, once to correct.
    sigmas = torch.cat([theirs.sigmas[:1], theirs.sigmas[1:-1:2], theirs.sigmas[-1:]]).double()
    path = VarianceExploding()
    oracle = gaussian(path, 3)
    ours = Heun(STEPS, Listed(sigmas.tolist()))(oracle, path, noise)
    z = sigmas[0] * noise
    for step, number in enumerate(theirs.timesteps):
        eps = oracle(z, theirs.sigmas[step].double().expand(2)).eps
        z = theirs.step(eps, number, z).prev_sample.double()
    close(ours, z)
