"""A target that the condition alone decides is learned through every mechanism."""

from __future__ import annotations

import pytest
import torch

from glissando.condition import Condition, Sequence, Vector

QUICK = ["adaln_zero", "cross_attention"]
CLASSES, TOKENS = 4, 3


def ratio_to_unconditional(
    build, mechanism: str, shape: tuple[int, ...], patch, steps: int
) -> float:
    """Loss after `steps` over the least that a network blind to the condition can reach.

    The input is noise that tells nothing; the target one of four latents, named by the condition.
    The best blind answer is the mean of the four, so its loss is their variance.
    """
    make = torch.Generator().manual_seed(0)
    pooled = torch.randn(CLASSES, 8, generator=make)
    text = torch.randn(CLASSES, TOKENS, 8, generator=make)
    # The same at all positions: rotary positions alone do not tell a token where it stands.
    targets = torch.randn(CLASSES, shape[0], 1, 1, generator=make).expand(-1, *shape)
    blind = targets.var(dim=0, correction=0).mean().item()

    def batch(labels: torch.Tensor) -> Condition:
        mask = torch.ones(len(labels), TOKENS, dtype=torch.bool)
        return Condition(
            {"text": Sequence(text[labels], mask), "text_pooled": Vector(pooled[labels])}
        )

    labels = torch.arange(CLASSES).repeat(4)
    network = build(mechanism, sizes=batch(labels).sizes, channels=shape[0], patch=patch)
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for _ in range(steps):
        z = torch.randn(len(labels), *shape, generator=make)
        noise = torch.rand(len(labels), generator=make)
        loss = (network(z, noise, batch(labels)) - targets[labels]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return sum(losses[-10:]) / 10 / blind


@pytest.mark.parametrize("name", QUICK)
def test_the_condition_matters(build, name):
    assert ratio_to_unconditional(build, name, (2, 1, 6), (1, 1), steps=100) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "patch"), [((2, 1, 12), (1, 2)), ((2, 4, 6), (2, 2))], ids=["1d", "2d"]
)
def test_the_condition_matters_through_every_mechanism(build, mechanism, shape, patch):
    assert ratio_to_unconditional(build, mechanism, shape, patch, steps=400) < 0.1


@pytest.mark.slow
def test_a_blind_network_does_not_get_below_the_variance(build):
    """The yardstick itself: the same network that reads only the noise level."""

    def blind(name: str, sizes, **options):
        return build(name, sizes={}, **options)

    assert 0.8 < ratio_to_unconditional(blind, "adaln_zero", (2, 1, 6), (1, 1), 150) < 1.2
