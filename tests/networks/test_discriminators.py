from __future__ import annotations

import pytest
import torch

from glissando.losses.adversarial import discriminator_loss, feature_matching, generator_loss
from glissando.networks.discriminators import MultiResolutionSTFTDiscriminator


@pytest.mark.parametrize("audio_channels", [1, 2])
def test_one_score_a_resolution(audio_channels: int) -> None:
    net = MultiResolutionSTFTDiscriminator(audio_channels, (256, 64), 4)
    scores = net(torch.randn(3, audio_channels, 1000))
    assert [logits.shape[:2] for logits, _ in scores] == [(3, 1), (3, 1)]
    # One score a frame of a hop of a quarter window; frequency is halved three times.
    assert [logits.shape[2:] for logits, _ in scores] == [(1000 // 64 + 1, 17), (1000 // 16 + 1, 5)]
    assert all(len(features) == 5 for _, features in scores)


def test_hears_every_channel_and_no_other_clip() -> None:
    net = MultiResolutionSTFTDiscriminator(2, (64,), 4).eval()
    wave = torch.randn(2, 2, 400)
    changed = wave.clone()
    changed[0, 1] += torch.randn(400)
    (before, _), (after, _) = net(wave)[0], net(changed)[0]
    assert not torch.allclose(before[0], after[0])
    torch.testing.assert_close(before[1], after[1])


def test_silence_has_finite_gradients() -> None:
    net = MultiResolutionSTFTDiscriminator(1, (64,), 4)
    wave = torch.zeros(1, 1, 400, requires_grad=True)
    generator_loss(net(wave)).backward()
    assert wave.grad is not None
    assert wave.grad.isfinite().all()


def test_learns_to_tell_noise_from_tones() -> None:
    torch.manual_seed(0)
    net = MultiResolutionSTFTDiscriminator(1, (64,), 4)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    time = torch.arange(512) / 8000

    def tones() -> torch.Tensor:
        return torch.sin(2 * torch.pi * (200 + 2000 * torch.rand(8, 1, 1)) * time)

    for _ in range(40):
        optimizer.zero_grad()
        discriminator_loss(net(tones()), net(torch.randn(8, 1, 512))).backward()
        optimizer.step()
    assert discriminator_loss(net(tones()), net(torch.randn(8, 1, 512))) < 0.5  # 2 is chance


def test_losses_are_the_published_formulas() -> None:
    real = [(torch.tensor([2.0, 0.5]), [torch.tensor([2.0, -2.0])]), (torch.tensor([-1.0]), [])]
    fake = [(torch.tensor([-3.0, 0.0]), [torch.tensor([3.0, -1.0])]), (torch.tensor([0.5]), [])]
    # Hinge: mean(0, 0.5) + mean(0, 1) = 0.75 and 2 + 1.5 = 3.5.
    assert discriminator_loss(real, fake).item() == pytest.approx((0.75 + 3.5) / 2)
    assert generator_loss(fake).item() == pytest.approx((1.5 - 0.5) / 2)
    assert feature_matching(real, fake).item() == pytest.approx(1 / 2)  # mean|1, 1| / mean|2, 2|
