"""Who learns from whom; the formulas are in tests/networks/test_discriminators.py."""

from __future__ import annotations

import torch
from torch import nn

from glissando.losses.adversarial import discriminator_loss, feature_matching, generator_loss
from glissando.networks.discriminators import MultiResolutionSTFTDiscriminator


def players() -> tuple[nn.Module, nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    wave = torch.randn(2, 1, 300)
    generator = nn.Conv1d(1, 1, 9, padding=4)
    return generator, MultiResolutionSTFTDiscriminator(1, (64,), 4), wave


def test_both_sides_get_a_gradient_of_their_own_loss() -> None:
    generator, critic, wave = players()
    discriminator_loss(critic(wave), critic(generator(wave).detach())).backward()
    assert all(p.grad is None for p in generator.parameters())
    # Biases may get none: real and fake pull them with the same force inside the margin.
    assert all(p.grad is not None for p in critic.parameters())
    assert all(p.grad.abs().sum() > 0 for p in critic.parameters() if p.ndim == 4 and len(p) > 1)

    generator, critic, wave = players()
    critic.requires_grad_(False)
    scores = critic(generator(wave))
    (generator_loss(scores) + feature_matching(critic(wave), scores)).backward()
    assert all(p.grad is None for p in critic.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.parameters())


def test_steps_go_the_right_way() -> None:
    generator, critic, wave = players()
    fake = generator(wave).detach()
    before = discriminator_loss(critic(wave), critic(fake))
    optimizer = torch.optim.SGD(critic.parameters(), 1e-2)
    before.backward()
    optimizer.step()
    assert discriminator_loss(critic(wave), critic(fake)) < before

    convinced = generator_loss(critic(generator(wave)))
    (gradient,) = torch.autograd.grad(convinced, [generator.weight])
    with torch.no_grad():
        generator.weight -= gradient
    assert generator_loss(critic(generator(wave))) < convinced


def test_matching_does_not_move_the_real_features() -> None:
    real, fake = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    feature_matching([(real, [real])], [(fake, [fake])]).backward()
    assert real.grad is None
    assert fake.grad is not None
    torch.testing.assert_close(fake.grad, torch.full((3,), -1 / 3))
