from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glissando.errors import UserError
from glissando.losses.balancer import Balancer

WEIGHTS = {"near": 1.0, "far": 3.0}


def terms(made: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
    return {"near": scale * made.square().sum(), "far": 3.0 * made.sin().mean()}


def gradients(parts: dict[str, Tensor], made: Tensor) -> dict[str, Tensor]:
    return {n: torch.autograd.grad(t, made, retain_graph=True)[0] for n, t in parts.items()}


def test_each_gradient_has_its_share_by_weight_over_a_moving_average_of_its_size() -> None:
    """Section 3.4 of the paper, three steps with a decay of 0.9."""
    balancer = Balancer(WEIGHTS, 0.9)
    sizes: dict[str, list[float]] = {name: [] for name in WEIGHTS}
    for _ in range(3):
        made = torch.randn(2, 1, 50, dtype=torch.float64, requires_grad=True)
        parts = terms(made)
        loss = balancer(parts, WEIGHTS, made)
        torch.testing.assert_close(loss, sum(parts.values()))
        wanted = torch.zeros_like(made)
        for name, grad in gradients(parts, made).items():
            sizes[name].append(float(grad.flatten(1).norm(dim=1).mean()))
            decays = [0.9 ** (len(sizes[name]) - 1 - i) for i in range(len(sizes[name]))]
            average = sum(d * s for d, s in zip(decays, sizes[name], strict=True)) / sum(decays)
            wanted += WEIGHTS[name] / 4.0 * grad / average
        torch.testing.assert_close(torch.autograd.grad(loss, made)[0], wanted)


def test_the_unit_of_a_term_does_not_matter() -> None:
    made = torch.randn(2, 1, 50, requires_grad=True)
    pulls = [
        torch.autograd.grad(Balancer(WEIGHTS)(terms(made, scale), WEIGHTS, made), made)[0]
        for scale in (1.0, 1000.0)
    ]
    torch.testing.assert_close(*pulls)


def test_a_term_that_joins_later_begins_its_own_average() -> None:
    balancer = Balancer(WEIGHTS)
    made = torch.randn(2, 1, 50, requires_grad=True)
    for _ in range(5):
        balancer({"near": terms(made)["near"]}, WEIGHTS, made)
    pull = torch.autograd.grad(balancer({"far": terms(made)["far"]}, WEIGHTS, made), made)[0]
    torch.testing.assert_close(pull.flatten(1).norm(dim=1).mean(), torch.tensor(1.0))


def test_what_is_not_finite_is_not_remembered() -> None:
    balancer = Balancer(WEIGHTS)
    made = torch.randn(2, 1, 50, requires_grad=True)
    balancer(terms(made), WEIGHTS, made)
    before = {name: each.clone() for name, each in balancer.state_dict().items()}
    loss = balancer({"near": made.sum() * torch.inf}, WEIGHTS, made)
    assert not torch.autograd.grad(loss, made)[0].isfinite().all()
    for name, each in balancer.state_dict().items():
        assert torch.equal(each, before[name])


def test_a_silent_gradient_is_no_division_by_zero() -> None:
    made = torch.zeros(2, 1, 50, requires_grad=True)
    pull = torch.autograd.grad(Balancer(WEIGHTS)(terms(made), WEIGHTS, made), made)[0]
    assert pull.isfinite().all()


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(UserError, match=r"balance=.* must be a decay"):
        Balancer(WEIGHTS, decay)
