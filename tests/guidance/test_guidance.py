"""Guidances against their formulas, on a network whose outputs are known."""

import pytest
import torch

from glissando.condition import Condition, Sequence, Vector
from glissando.diffusion.denoiser import Denoiser
from glissando.diffusion.oracle import GaussianMixture
from glissando.diffusion.parameterization import EDM, X0, V, Velocity
from glissando.diffusion.path import mix, spread
from glissando.diffusion.path_cosine import Cosine
from glissando.diffusion.path_rectified import Rectified
from glissando.errors import UserError
from glissando.guidance.apg import APG
from glissando.guidance.autoguidance import Autoguidance
from glissando.guidance.base import Companion, Unguided
from glissando.guidance.cfg_plus_plus import CFGPlusPlus
from glissando.guidance.cfg_zero_star import CFGZeroStar
from glissando.guidance.classifier_free import ClassifierFree
from glissando.samplers.euler import Euler
from glissando.samplers.heun import Heun

B, SHAPE = 3, (2, 1, 4)


class Net(torch.nn.Module):
    """F = z * (first number of the condition) + the second; counts rows it was given."""

    def __init__(self):
        super().__init__()
        self.rows, self.masks = [], []

    def forward(self, z, noise, condition, mask=None):
        self.rows.append(len(z))
        self.masks.append(mask)
        gain, bias = condition["known"].value.to(z)[:, :2, None, None].unbind(1)
        wave = torch.linspace(-1, 1, z.shape[-1]).to(z)
        return z * gain[..., None] + bias[..., None] * wave


def condition(gain, bias):
    return Condition({"known": Vector(torch.tensor([[gain, bias]]).repeat(B, 1))})


KEPT, DROPPED = condition(0.8, 0.5), condition(0.3, -0.2)


def setting(path=None, parameterization=None, level=0.5):
    denoiser = Denoiser(Net(), path or Rectified(), parameterization or Velocity())
    z = torch.randn(B, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return denoiser, z, torch.full((B,), level, dtype=torch.float64)


ALL = [
    Unguided(),
    ClassifierFree(3.0),
    ClassifierFree(3.0, rescale=0.7),
    CFGPlusPlus(0.6),
    CFGZeroStar(3.0),
    APG(3.0),
]


@pytest.mark.parametrize("parameterization", [V(), X0(), EDM(), Velocity()])
def test_classifier_free_is_linear_in_x_0_and_eps(parameterization):
    denoiser, z, t = setting(Cosine(), parameterization)
    ours = ClassifierFree(3.0)(denoiser, KEPT, DROPPED)(z, t)
    kept, dropped = denoiser(z, t, KEPT), denoiser(z, t, DROPPED)
    torch.testing.assert_close(ours.x_0, dropped.x_0 + 3 * (kept.x_0 - dropped.x_0))
    torch.testing.assert_close(ours.eps, dropped.eps + 3 * (kept.eps - dropped.eps))


@pytest.mark.parametrize("guidance", ALL, ids=lambda g: type(g).__name__)
def test_cost_mask_and_dtype(guidance):
    denoiser, z, t = setting()
    mask = torch.tensor([[True] * 4, [True, True, True, False], [True, True, False, False]])
    estimate = guidance(denoiser, KEPT, DROPPED, mask)(z, t)
    rows = B if isinstance(guidance, Unguided) else 2 * B
    assert denoiser.network.rows == [rows]  # one call for both
    assert torch.equal(denoiser.network.masks[0], mask.repeat(rows // B, 1))
    assert estimate.x_0.dtype == torch.float64
    # What stands in the padding does not change what is real.
    junk = torch.where(mask[:, None, None], z, 1e3)
    other = guidance(denoiser, KEPT, DROPPED, mask)(junk, t)
    for ours, theirs in zip(estimate, other, strict=True):
        kept = mask[:, None, None].expand_as(ours)
        torch.testing.assert_close(ours[kept], theirs[kept])


@pytest.mark.parametrize("guidance", [ClassifierFree(1.0), APG(1.0)])
def test_scale_1_costs_one(guidance):
    denoiser, z, t = setting()
    estimate = guidance(denoiser, KEPT, DROPPED)(z, t)
    assert denoiser.network.rows == [B]
    assert torch.equal(estimate.x_0, denoiser(z, t, KEPT).x_0)


@pytest.mark.parametrize("kind", [ClassifierFree, CFGPlusPlus, CFGZeroStar, APG])
def test_outside_the_interval_only_the_condition_runs(kind):
    denoiser, z, _ = setting()
    denoise = kind(scale=0.5, interval=[-2.0, 2.0])(denoiser, KEPT, DROPPED)
    path = denoiser.path
    for log_snr, inside in ((-3.0, False), (-1.9, True), (0.0, True), (1.9, True), (2.1, False)):
        t = path.t(torch.full((B,), log_snr, dtype=torch.float64))
        denoiser.network.rows.clear()
        estimate = denoise(z, t)
        assert denoiser.network.rows == [2 * B if inside else B]
        plain = denoiser(z, t, KEPT)
        assert torch.equal(estimate.x_0, plain.x_0) is not inside
    for bad in ([2, -2], [3], 3, [1, 2, 3]):
        with pytest.raises(UserError, match=r"guidance\.interval"):
            kind(scale=0.5, interval=bad)


def test_rescale_brings_back_the_deviation_over_all_axes():
    denoiser, z, t = setting()
    kept, dropped = (denoiser.output(z, t, c) for c in (KEPT, DROPPED))
    guided = dropped + 5 * (kept - dropped)
    spread_of = [v.flatten(1).std(1)[:, None, None, None] for v in (kept, guided)]
    for share in (0.4, 1.0):
        # Lin et al. 2024, listing 1: mixing the rescaled with the plain one.
        expected = share * guided * spread_of[0] / spread_of[1] + (1 - share) * guided
        ours = ClassifierFree(5.0, rescale=share)(denoiser, KEPT, DROPPED)(z, t)
        true = denoiser.estimate(z, t, expected)
        torch.testing.assert_close(ours.x_0, true.x_0)
    for bad in (-0.1, 1.1):
        with pytest.raises(UserError, match=r"guidance\.rescale"):
            ClassifierFree(rescale=bad)
    silent = condition(0.0, 0.0)  # what an untrained network answers: 0
    assert ClassifierFree(5.0, rescale=0.5)(denoiser, silent, silent)(z, t).x_0.isfinite().all()


def test_cfg_plus_plus_renoises_with_the_null():
    denoiser, z, t = setting()
    kept, dropped = denoiser(z, t, KEPT), denoiser(z, t, DROPPED)
    ours = CFGPlusPlus(0.6)(denoiser, KEPT, DROPPED)(z, t)
    torch.testing.assert_close(ours.x_0, 0.4 * dropped.x_0 + 0.6 * kept.x_0)
    torch.testing.assert_close(ours.eps, dropped.eps)
    # Their algorithm's DDIM step, through our Euler.
    from glissando.samplers.spacing import Listed

    moved = Euler(1, Listed([0.9, 0.6]))(
        CFGPlusPlus(0.6)(denoiser, KEPT, DROPPED), denoiser.path, z
    )
    t = torch.full((B,), 0.9, dtype=torch.float64)
    kept, dropped = denoiser(0.9 * z, t, KEPT), denoiser(0.9 * z, t, DROPPED)
    expected = 0.4 * (0.4 * dropped.x_0 + 0.6 * kept.x_0) + 0.6 * dropped.eps
    torch.testing.assert_close(moved, expected)
    with pytest.raises(UserError, match=r"guidance\.scale"):
        CFGPlusPlus(3.0)


def test_cfg_zero_star_projects_the_null():
    denoiser, z, t = setting()
    kept, dropped = (denoiser.output(z, t, c) for c in (KEPT, DROPPED))
    dot, square = (kept * dropped).sum((1, 2, 3)), (dropped**2).sum((1, 2, 3))
    share = spread(dot / square, z)
    expected = share * dropped + 4 * (kept - share * dropped)
    ours = CFGZeroStar(4.0)(denoiser, KEPT, DROPPED)(z, t)
    torch.testing.assert_close(ours.x_0, denoiser.estimate(z, t, expected).x_0)
    with pytest.raises(UserError, match=r"guidance\.zero_below"):
        CFGZeroStar(zero_below=float("inf"))
    # Zero-init: a velocity of 0 leaves z where it is.
    denoise = CFGZeroStar(4.0, zero_below=1.0)(denoiser, KEPT, DROPPED)
    denoiser.network.rows.clear()
    still = denoise(z, t)
    assert denoiser.network.rows == []
    torch.testing.assert_close(mix(denoiser.path(t - 0.1), *still), z)


def test_apg_by_its_listing():
    """Algorithm 1 of Sadat et al. 2024, over two evaluations so that the momentum counts."""
    denoiser, z, t = setting(Cosine(), V())
    scale, share, momentum, norm = 6.0, 0.3, -0.5, 0.2
    denoise = APG(scale, share, momentum, norm)(denoiser, KEPT, DROPPED)
    running = 0
    for _ in range(2):
        ours = denoise(z, t)
        kept, dropped = denoiser(z, t, KEPT).x_0, denoiser(z, t, DROPPED).x_0
        running = kept - dropped + momentum * running
        size = running.flatten(1).norm(dim=1) / (running[0].numel() ** 0.5)
        diff = running * spread((norm / size).clamp(max=1), z)
        unit = kept / kept.flatten(1).norm(dim=1)[:, None, None, None]
        parallel = (diff * unit).sum((1, 2, 3), keepdim=True) * unit
        expected = kept + (scale - 1) * (diff - parallel + share * parallel)
        torch.testing.assert_close(ours.x_0, expected)
        torch.testing.assert_close(mix(denoiser.path(t), *ours), z)  # eps fits x_0
    # A new run starts without the last one's momentum.
    first = APG(scale, share, momentum, norm)(denoiser, KEPT, DROPPED)(z, t)
    again = APG(scale, share, momentum, norm)(denoiser, KEPT, DROPPED)(z, t)
    assert torch.equal(first.x_0, again.x_0)


def test_apg_without_its_additions_is_classifier_free():
    denoiser, z, t = setting()
    plain = ClassifierFree(5.0)(denoiser, KEPT, DROPPED)(z, t)
    ours = APG(5.0, 1.0, 0.0, 0.0)(denoiser, KEPT, DROPPED)(z, t)
    torch.testing.assert_close(ours.x_0, plain.x_0)
    torch.testing.assert_close(ours.eps, plain.eps)
    for bad in ({"norm": -1.0}, {"momentum": 1.0}):
        with pytest.raises(UserError, match="guidance"):
            APG(**bad)


class Weak(Net):
    def forward(self, z, noise, condition, mask=None):
        return 0.5 * super().forward(z, noise, condition, mask)


def autoguided(weak, known, **options):
    """Bound to a weak model that is told ``known`` of the clips."""
    return Autoguidance("weak", **options).bind(lambda ckpt: {"weak": Companion(weak, known)}[ckpt])


def test_autoguidance_moves_away_from_the_weak_one_in_its_own_words():
    denoiser, z, t = setting()
    weak = Denoiser(Weak(), denoiser.path, V())  # another parameterization is no matter
    ours = autoguided(weak, DROPPED, scale=2.5)(denoiser, KEPT, DROPPED)(z, t)
    good, bad = denoiser(z, t, KEPT), weak(z, t, DROPPED)
    torch.testing.assert_close(ours.x_0, bad.x_0 + 2.5 * (good.x_0 - bad.x_0))
    torch.testing.assert_close(ours.eps, bad.eps + 2.5 * (good.eps - bad.eps))
    torch.testing.assert_close(mix(denoiser.path(t), *ours), z)  # eps fits x_0
    denoiser.network.rows.clear(), weak.network.rows.clear()
    autoguided(weak, KEPT, interval=[-1, 1])(denoiser, KEPT, DROPPED)(z, t + 0.45)
    autoguided(weak, KEPT, scale=1)(denoiser, KEPT, DROPPED)(z, t)
    assert (denoiser.network.rows, weak.network.rows) == ([B, B], [])


def test_autoguidance_away_from_itself_is_no_guidance():
    denoiser, z, t = setting()
    ours = autoguided(denoiser, KEPT, scale=3.0)(denoiser, KEPT, DROPPED)(z, t)
    assert torch.equal(ours.x_0, denoiser(z, t, KEPT).x_0)
    assert torch.equal(ours.eps, denoiser(z, t, KEPT).eps)


def test_autoguidance_wants_one_path_and_is_bound_anew():
    denoiser, *_ = setting()
    other = Denoiser(Weak(), Cosine(), V())
    with pytest.raises(UserError, match=r"guidance\.ckpt: weak was trained on another path"):
        autoguided(other, KEPT)(denoiser, KEPT, DROPPED)
    free = Autoguidance("weak")
    free.bind(lambda _: Companion(other, KEPT))
    with pytest.raises(ValueError, match="bind"):  # binding leaves it as it was
        free(denoiser, KEPT, DROPPED)


@pytest.mark.parametrize(
    "guidance",
    [*ALL, ClassifierFree(1.0), APG(1.0), CFGPlusPlus(1.0)],
    ids=lambda g: type(g).__name__,
)
def test_who_uses_the_null_says_so(guidance):
    """What a negative prompt is refused by."""
    denoiser, z, t = setting()
    one, two = (guidance(denoiser, KEPT, null)(z, t) for null in (DROPPED, condition(-0.1, 0.7)))
    same = torch.equal(one.x_0, two.x_0) and torch.equal(one.eps, two.eps)
    assert guidance.uses_null is not same
    assert guidance.bind(pytest.fail) is guidance


def test_a_negative_prompt_is_just_another_null_of_another_length():
    class Tokens(torch.nn.Module):
        def forward(self, z, noise, condition, mask=None):
            text = condition["text"]
            total = (text.value * text.mask[..., None]).sum((1, 2))
            return total[:, None, None, None].expand_as(z).to(z)

    denoiser, z, t = (
        Denoiser(Tokens(), Rectified(), X0()),
        torch.zeros(B, *SHAPE),
        torch.ones(B) / 2,
    )

    def text(tokens, value):
        mask = torch.ones(B, tokens, dtype=torch.bool)
        return Condition({"text": Sequence(torch.full((B, tokens, 2), value), mask)})

    ours = ClassifierFree(2.0)(denoiser, text(3, 1.0), text(5, -1.0))(z, t)
    assert ours.x_0.unique().tolist() == [2 * 6 - (-10)]


def test_guidance_samples_the_sharpened_gaussian():
    """Conditional N(m, 1), null N(0, 1) with scale w: guidance shifts the mean to w m exactly."""
    path, mean, scale = Rectified(), 0.7, 3.0
    ones = torch.ones(1, *SHAPE, dtype=torch.float64)
    weight = torch.ones(1, dtype=torch.float64)

    class Gaussians(torch.nn.Module):
        t = None

        def forward(self, z, noise, condition, mask=None):
            means = condition["known"].value[:, 0].tolist()
            out = [
                GaussianMixture(path, weight, ones * m, ones)(z[i : i + 1], noise[i : i + 1]).x_0
                for i, m in enumerate(means)
            ]
            return torch.cat(out)

    denoiser = Denoiser(Gaussians(), path, X0())
    noise = torch.randn(B, *SHAPE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    denoise = ClassifierFree(scale)(denoiser, condition(mean, 0.0), condition(0.0, 0.0))
    ours = Heun(300)(denoise, path, noise)
    torch.testing.assert_close(ours, noise + scale * mean, rtol=0, atol=1e-3)
