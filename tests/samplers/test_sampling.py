"""What all samplers share: ends, dtypes, strength, NaN, progress; and EDM's algorithm 1."""

from itertools import pairwise

import pytest
import torch
from gaussians import PATHS, SHAPE, gaussian

from glissando.condition import Condition
from glissando.diffusion.denoiser import Denoiser
from glissando.diffusion.estimate import Estimate
from glissando.diffusion.parameterization import V
from glissando.diffusion.path_cosine import Cosine
from glissando.diffusion.path_exploding import VarianceExploding
from glissando.diffusion.path_rectified import Rectified
from glissando.errors import UserError
from glissando.guidance.apg import APG
from glissando.guidance.cfg_plus_plus import CFGPlusPlus
from glissando.guidance.cfg_zero_star import CFGZeroStar
from glissando.guidance.classifier_free import ClassifierFree
from glissando.samplers import base
from glissando.samplers.base import remaining
from glissando.samplers.ddim import DDIM
from glissando.samplers.dpmpp_2m import DPMpp2M, DPMpp2MSDE
from glissando.samplers.dpmpp_3m_sde import DPMpp3MSDE
from glissando.samplers.euler import Euler
from glissando.samplers.euler_maruyama import EulerMaruyama
from glissando.samplers.heun import Heun
from glissando.samplers.heun_churn import HeunChurn
from glissando.samplers.noise import ClipNoise
from glissando.samplers.ode import Ode
from glissando.samplers.pingpong import PingPong
from glissando.samplers.rk4 import RK4
from glissando.samplers.sde import Sde
from glissando.samplers.spacing import Karras, LogSnrLinear, Polynomial
from glissando.samplers.unipc import UniPC

FIXED = [
    DDIM, DPMpp2M, DPMpp2MSDE, DPMpp3MSDE, Euler, EulerMaruyama, Heun, HeunChurn, PingPong, RK4,
    UniPC,
]  # fmt: skip
EVALUATIONS = {Heun: 2, HeunChurn: 2, RK4: 4}


def noise_of(clips=2, dtype=torch.float64, first=0):
    return ClipNoise(range(first, first + clips), SHAPE, dtype=dtype)


@pytest.mark.parametrize("sampler", FIXED)
@pytest.mark.parametrize("spacing", [Polynomial(), LogSnrLinear(), Karras()])
def test_the_last_step_returns_x_0_itself(path, sampler, spacing):
    """Also from t = 1, where alpha may be 0, and in one step; nothing is NaN on the way."""
    answers, oracle = [], gaussian(path)

    def denoise(z, t):
        assert t.shape == (2,)
        assert z.isfinite().all()
        answers.append(oracle(z, t))
        return answers[-1]

    for steps in (1, 4):
        answers.clear()
        fresh = noise_of()
        run = sampler(steps, spacing)
        x_0 = run(denoise, path, fresh(), fresh)
        assert torch.equal(x_0, answers[-1].x_0)
        assert run.evaluations == len(answers) == (steps - 1) * EVALUATIONS.get(sampler, 1) + 1


def test_generic_heun_is_algorithm_1_of_karras():
    path = VarianceExploding()
    oracle, noise = gaussian(path, 3), noise_of(5)()
    ours = Heun(18, Karras())(oracle, path, noise)
    ramp = torch.arange(18, dtype=torch.float64) / 17
    times = (80 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    times = torch.cat([times, times.new_zeros(1)])
    x = times[0] * noise
    for t, s in pairwise(times):
        d = (x - oracle(x, t.expand(5)).x_0) / t
        landed = x + (s - t) * d
        if s > 0:
            landed = x + (s - t) * (d + (landed - oracle(landed, s.expand(5)).x_0) / s) / 2
        x = landed
    assert (ours - x).abs().max() < 1e-12


def test_euler_is_ddim_and_the_flow_step():
    noise = noise_of(3)()
    path = Rectified()
    oracle = gaussian(path, 3)
    z, times = noise, torch.linspace(1, 0, 9, dtype=torch.float64)
    for t, s in pairwise(times):
        estimate = oracle(z, t.expand(3))
        z = z + (s - t) * (estimate.eps - estimate.x_0)
    torch.testing.assert_close(Euler(8)(oracle, path, noise), z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sampler", [Euler, Heun, DPMpp2M, UniPC, RK4])
def test_paths_agree_in_the_limit(sampler):
    """One Gaussian, one noise: all paths lead from the same noise to the same clip."""
    noise = noise_of(4)()
    ends = [
        sampler(200, LogSnrLinear(-10, 10))(gaussian(path), path, noise) for path in PATHS.values()
    ]
    for end in ends[1:]:
        assert (end - ends[0]).abs().max() < (0.05 if sampler is Euler else 0.02)


def test_works_in_the_dtype_of_the_noise():
    for dtype, expected in (
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
    ):
        path = Cosine()
        seen = []

        def denoise(z, t, path=path, seen=seen):
            seen.append(z.dtype)
            c = path(t)
            return Estimate(0.5 * z, 0.5 * z * c.alpha.to(z).view(-1, 1, 1, 1))

        x_0 = Heun(3)(denoise, path, torch.randn(2, *SHAPE).to(dtype))
        assert x_0.dtype == expected
        assert set(seen) == {expected}


def test_float32_stays_close_to_float64():
    for path in PATHS.values():
        oracle, noise = gaussian(path, 3), noise_of(4)()
        single = gaussian(path, 3)
        single.weights, single.means, single.stds = (
            value.float() for value in (oracle.weights, oracle.means, oracle.stds)
        )
        for sampler in (Euler, Heun, DPMpp2M, UniPC):
            run = sampler(30, LogSnrLinear())
            exact = run(oracle, path, noise)
            assert (run(single, path, noise.float()) - exact).abs().max() < 2e-4


@pytest.mark.parametrize(
    "sampler", [*(kind(6) for kind in FIXED), Sde(6), Ode()], ids=lambda s: type(s).__name__
)
def test_nan_from_the_network_is_reported_once(sampler):
    def broken(z, t):
        good = gaussian(Rectified())(z, t)
        hurt = torch.where(t[0] < 0.5, torch.nan, 1.0)
        return Estimate(good.x_0 * hurt, good.eps * hurt)

    fresh = noise_of()
    with pytest.raises(UserError, match="the network gave NaN") as caught:
        sampler(broken, Rectified(), fresh(), fresh)
    assert "\n" not in str(caught.value)
    if isinstance(sampler, Euler):
        assert "at step 5 of 6 (t = 0.3333)" in str(caught.value)


def test_progress_counts_steps():
    told = []
    path = Rectified()
    Euler(4)(gaussian(path), path, noise_of()(), progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("sampler", FIXED)
def test_a_clip_does_not_depend_on_its_batch(sampler):
    path = Rectified()
    oracle = gaussian(path, 3)

    def run(seeds):
        fresh = ClipNoise(seeds, SHAPE, dtype=torch.float32)
        return sampler(5)(oracle, path, fresh(), fresh)

    together = run([11, 12, 13])
    for place, seed in enumerate((11, 12, 13)):
        torch.testing.assert_close(run([seed])[0], together[place], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(run([13, 11]), together[[2, 0]], rtol=1e-6, atol=1e-6)


def test_strength(path, noise):
    oracle = gaussian(path)
    init = 3 + torch.zeros_like(noise)
    run = Euler(20, LogSnrLinear())
    assert torch.equal(run(oracle, path, noise, init=init, strength=0), init)
    assert torch.equal(run(oracle, path, noise, init=init, strength=1), run(oracle, path, noise))
    # In between the data lies between, and further from the input the stronger.
    means = [
        (run(oracle, path, noise, init=init, strength=strength) - init).abs().mean().item()
        for strength in (0.1, 0.3, 0.5, 0.7, 0.9)
    ]
    assert means == sorted(means)
    for bad in (-0.1, 1.5):
        with pytest.raises(UserError, match="strength"):
            run(oracle, path, noise, init=init, strength=bad)


def test_strength_means_the_same_noise_on_every_path():
    for strength in (0.25, 0.5, 0.75):
        levels = []
        for path in PATHS.values():
            times = remaining(path, LogSnrLinear()(path, 20), strength)
            assert (times.diff() < 0).all()
            levels.append(path(times[:1]).log_snr.item())
        assert levels == pytest.approx([10 - 20 * strength] * len(levels))


@pytest.mark.parametrize("sampler", FIXED)
def test_a_start_beside_a_time_of_the_grid_is_no_step(sampler):
    """Strengths that fall on a level but for the last digit: .26 and .12 of these grids do."""
    path = Rectified()
    oracle, init = gaussian(path), torch.zeros(2, *SHAPE, dtype=torch.float64)
    for steps, strength in ((51, 0.26), (26, 0.12), (26, 0.56)):
        times = remaining(path, LogSnrLinear()(path, steps), strength)
        assert path(times[:-1]).log_snr.diff().min() > 0.3
        fresh = noise_of()
        run = sampler(steps, LogSnrLinear())
        assert run(oracle, path, fresh(), fresh, init=init, strength=strength).abs().max() < 10


@pytest.mark.parametrize("steps", [0, -3])
def test_steps_below_one_name_the_flag(steps):
    with pytest.raises(UserError, match=r"sampler\.steps"):
        Euler(steps)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Euler(2.5), r"sampler\.steps must be a whole number, not 2\.5"),
        (lambda: DDIM(4, eta=1.5), r"sampler\.eta of DDIM must be between 0 and 1, not 1\.5"),
        (lambda: DPMpp2MSDE(4, eta=float("nan")), r"sampler\.eta"),
        (lambda: HeunChurn(4, churn=float("nan")), r"sampler\.churn"),
        # torchdiffeq's fixed-step methods would go from noise to data in a single step.
        (lambda: Ode(method="euler"), r"sampler\.method must be one of dopri5, .*, not euler"),
        (lambda: Ode(rtol=0), r"sampler\.rtol"),
        (lambda: Sde(4, method="rk4"), r"sampler\.method must be one of heun, .*, not rk4"),
        (lambda: Karras(rho=0), r"sampler\.spacing\.rho"),
    ],
)
def test_bad_settings_name_their_flag(make, line):
    with pytest.raises(UserError, match=line):
        make()


def test_churn_leaves_pure_noise_alone():
    path, fresh = Rectified(), noise_of()
    sampler = HeunChurn(4, Polynomial(), sigma_max=float("inf"))
    assert sampler(gaussian(path), path, fresh(), fresh).isfinite().all()


def test_solvers_refuse_pure_noise_and_noise_needs_a_source():
    path = Rectified()
    for solver in (Ode(Polynomial()), Sde(4, Polynomial())):
        fresh = noise_of()
        solver.steps = 4
        with pytest.raises(UserError, match="sampler/spacing=log_snr"):
            solver(gaussian(path), path, fresh(), fresh)
    with pytest.raises(ValueError, match="fresh=ClipNoise"):
        PingPong(4)(gaussian(path), path, noise_of()())


class Meta(torch.nn.Module):
    """On the meta device any look at a value raises, as waiting for a GPU should."""

    def forward(self, z, noise, condition, mask=None):
        assert (z.device.type, noise.device.type) == ("meta", "meta")
        return 0.5 * z


class MetaNoise:
    def __call__(self):
        return torch.empty(2, *SHAPE, device="meta")

    def between(self, start, end):
        return self()


@pytest.mark.parametrize("sampler", FIXED)
def test_no_step_waits_for_the_device(monkeypatch, sampler):
    told = []
    monkeypatch.setattr(base, "report", lambda worst, grid: told.append(worst))
    denoiser = Denoiser(Meta(), Cosine(), V())
    for guidance in (
        ClassifierFree(3.0, rescale=0.5, interval=[-4, 4]),
        APG(),
        CFGZeroStar(zero_below=-6),
        CFGPlusPlus(),
    ):
        denoise = guidance(denoiser, Condition(), Condition())
        fresh = MetaNoise()
        assert sampler(4)(denoise, Cosine(), fresh(), fresh).shape == (2, *SHAPE)
    assert len(told) == 4


@pytest.mark.parametrize("spacing", [Polynomial(start=0.99), Polynomial(2, 0.99), Karras()])
def test_an_adaptive_solver_ends_beside_the_data_on_any_spacing(path, spacing):
    """Its last step is an Euler step: from the middle of the path it would leave only a mean."""
    oracle, noise = gaussian(path), noise_of(4)()
    fine = Ode()(oracle, path, noise)
    # Where they start, at a sigma / alpha from 60 on, is a few hundredths of the data apart.
    assert (Ode(spacing)(oracle, path, noise) - fine).abs().max() < 0.1


@pytest.mark.parametrize(("method", "each"), [("heun", 2), ("midpoint", 2), ("euler_heun", 1)])
def test_the_sde_solver_counts(method, each):
    path, fresh = Rectified(), noise_of()
    solver = Sde(9, method=method)
    solver(gaussian(path), path, fresh(), fresh)
    assert solver.evaluations == 9 * each + 2  # torchsde looks once at a shape; one step to data


def test_adaptive_solver_meets_its_tolerance_and_counts(path):
    oracle, noise = gaussian(path), noise_of(4)()
    spacing = LogSnrLinear(-8, 8, to_data=False)
    first, *_, last = spacing(path, 2).tolist()
    start = path(torch.tensor(first, dtype=torch.float64)).sigma * noise
    true, spent = oracle.flow_map(start, first, last), []
    for tolerance in (1e-3, 1e-5, 1e-7):
        solver = Ode(spacing, rtol=tolerance, atol=tolerance)
        assert (solver(oracle, path, noise) - true).abs().max() < 100 * tolerance
        spent.append(solver.evaluations)
    assert spent == sorted(spent)
    assert spent[0] < spent[-1]
