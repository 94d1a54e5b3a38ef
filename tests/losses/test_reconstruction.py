from __future__ import annotations

import math

import pytest
import torch
from auraloss.freq import MultiResolutionSTFTLoss, SumAndDifferenceSTFTLoss

from glissando.losses.reconstruction import (
    MelDistance,
    Reconstruction,
    STFTDistance,
    WaveDistance,
)

RATE = 22050
SIZES = (512, 128, 32)


def music(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def published(**options) -> MultiResolutionSTFTLoss:
    return MultiResolutionSTFTLoss(
        fft_sizes=list(SIZES), hop_sizes=[size // 4 for size in SIZES], win_lengths=list(SIZES),
        sample_rate=RATE, **options,
    )  # fmt: skip


@pytest.mark.parametrize("perceptual", [False, True])
def test_stft_distance_is_auralosss(perceptual: bool) -> None:
    prediction, target = music(2, 1, 4000), music(2, 1, 4000, seed=1)
    ours = STFTDistance(RATE, SIZES, perceptual)(prediction, target)
    expected = published(perceptual_weighting=perceptual)(prediction, target)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=0)


def test_stft_distance_has_auralosss_gradient() -> None:
    prediction, target = music(2, 1, 4000).requires_grad_(), music(2, 1, 4000, seed=1)
    gradients = [
        torch.autograd.grad(loss(prediction, target), prediction)[0]
        for loss in (STFTDistance(RATE, SIZES), published())
    ]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-8)


def test_stereo_is_compared_as_sum_and_difference() -> None:
    prediction, target = music(2, 2, 4000), music(2, 2, 4000, seed=1)
    mono = published()
    mixed = [torch.cat([x[:, :1] + x[:, 1:], x[:, :1] - x[:, 1:]], 1) for x in (prediction, target)]
    ours = STFTDistance(RATE, SIZES)(prediction, target)
    torch.testing.assert_close(ours, mono(*mixed), rtol=1e-5, atol=0)
    # A collapsed image costs something that comparing the sums alone does not see.
    collapsed = target.mean(1, keepdim=True).expand_as(target)
    assert STFTDistance(RATE, SIZES)(collapsed, target) > 0.3
    assert SumAndDifferenceSTFTLoss  # auraloss still has the original of this


@pytest.mark.parametrize("silent", ["prediction", "target", "both"])
@pytest.mark.parametrize("distance", [
    STFTDistance(RATE, SIZES), STFTDistance(RATE, SIZES, perceptual=True), WaveDistance(),
    MelDistance(RATE, (512, 128), (32, 16)),
])  # fmt: skip
def test_silence_is_finite(distance: torch.nn.Module, silent: str) -> None:
    prediction = (music(2, 1, 4000) * (silent == "target")).requires_grad_()
    target = music(2, 1, 4000, seed=1) * (silent == "prediction")
    loss = distance(prediction, target)
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert 0 <= loss < 100  # auraloss alone: 12,327 for a silent target
    assert gradient.isfinite().all()


def test_a_silent_prediction_is_pulled_to_the_target() -> None:
    """Spectral terms give it no gradient at all; the sum must."""
    target = music(1, 1, 4000)
    prediction = torch.zeros_like(target, requires_grad=True)
    terms = Reconstruction(RATE, sizes=SIZES)(prediction, target)
    (gradient,) = torch.autograd.grad(sum(terms.values()), prediction)
    assert torch.nn.functional.cosine_similarity(-gradient, target, dim=-1) > 0.99


def test_wave_distance_closed_form() -> None:
    target = torch.tensor([[[0.3, -0.4]], [[1e-4, 0.0]]])
    prediction = torch.tensor([[[0.3, 0.0]], [[0.0, 0.0]]])
    loud = 0.4 / 0.5
    quiet = (1e-4 / math.sqrt(2)) / 1e-2  # the level counts as 1e-2
    expected = (loud + quiet) / 2
    assert WaveDistance(1e-2)(prediction, target).item() == pytest.approx(expected, rel=1e-2)
    assert WaveDistance()(target, target).item() < 1e-3


def test_mel_distance_of_a_gain_is_its_logarithm() -> None:
    target = music(2, 2, 8000)
    distance = MelDistance(RATE, (512,), (20,))(2 * target, target)
    assert distance.item() == pytest.approx(math.log(2), rel=1e-3)


def test_terms_are_weighted_and_a_zero_weight_costs_nothing() -> None:
    prediction, target = music(1, 1, 4000), music(1, 1, 4000, seed=1)
    terms = Reconstruction(RATE, stft=2.0, mel=0, wave=0.5, sizes=SIZES)(prediction, target)
    assert list(terms) == ["stft", "wave"]
    torch.testing.assert_close(terms["stft"], 2 * STFTDistance(RATE, SIZES)(prediction, target))
    torch.testing.assert_close(terms["wave"], 0.5 * WaveDistance()(prediction, target))


def test_float32_under_autocast() -> None:
    prediction, target = music(1, 2, 4000), music(1, 2, 4000, seed=1)
    loss = Reconstruction(RATE, perceptual=True, sizes=SIZES)
    expected = loss(prediction, target)
    with torch.autocast("cpu", torch.bfloat16):
        within = loss(prediction, target)
    for name, value in expected.items():
        torch.testing.assert_close(within[name], value)


def test_nothing_in_a_loss_can_be_trained() -> None:
    assert not [p for p in Reconstruction(RATE, perceptual=True).parameters() if p.requires_grad]
