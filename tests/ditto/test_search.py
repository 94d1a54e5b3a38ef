"""The search alone, on losses whose least value is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glissando.ditto.base import Aim
from glissando.ditto.search import search
from glissando.errors import UserError


class To(Aim):
    """Mean square distance from a number."""

    def __init__(self, goal: float = 0.5) -> None:
        super().__init__()
        self.goal = goal

    def forward(self, wave: Tensor) -> Tensor:
        return (wave - self.goal).square().mean((1, 2))


def play(x: Tensor) -> Tensor:
    return x.flatten(2).tanh()


def start(clips: int = 3) -> Tensor:
    return torch.randn(clips, 2, 1, 5, generator=torch.Generator().manual_seed(0))


def test_the_loss_falls_to_its_least() -> None:
    found = search(play, To(), start(), 300, 0.1)
    assert all(losses[-1] < 1e-3 * losses[0] for losses in found.losses)
    torch.testing.assert_close(play(found.noise), torch.full((3, 2, 5), 0.5), atol=0.02, rtol=0)


def test_clips_do_not_depend_on_each_other() -> None:
    together = search(play, To(), start(), 7, 0.1, tolerance=0.2)
    for row in range(3):
        alone = search(play, To(), start()[row : row + 1], 7, 0.1, tolerance=0.2)
        torch.testing.assert_close(alone.noise[0], together.noise[row])
        assert alone.losses[0] == pytest.approx(together.losses[row])


def test_the_best_noise_is_kept_even_if_the_search_overshoots() -> None:
    found = search(play, To(), start(), 12, 3.0)
    assert any(losses[-1] > min(losses) for losses in found.losses)
    for row, losses in enumerate(found.losses):
        loss = To()(play(found.noise[row : row + 1]))
        assert float(loss) == pytest.approx(min(losses))


def test_the_first_iteration_is_the_noise_itself() -> None:
    found = search(play, To(), start(), 1, 0.1)
    assert torch.equal(found.noise, start())
    assert [len(losses) for losses in found.losses] == [1, 1, 1]


def test_a_clip_that_is_near_enough_is_done() -> None:
    seen = []
    found = search(
        play, To(), start(), 200, 0.1, 0.05, lambda done, loss: seen.append((done, loss))
    )
    for losses in found.losses:
        assert losses[-1] <= 0.05
        assert all(loss > 0.05 for loss in losses[:-1])
    assert [done for done, _ in seen] == list(range(1, max(map(len, found.losses)) + 1))
    means = [loss for _, loss in seen]
    assert means == sorted(means, reverse=True)


def test_what_is_not_finite_is_one_line() -> None:
    with pytest.raises(UserError, match=r"loss of ditto became NaN.*ditto\.lr"):
        search(lambda x: x.flatten(2) / 0, To(), start(), 3, 0.1)
    with pytest.raises(UserError, match=r"gradient of ditto became NaN.*ditto\.lr"):
        search(lambda x: (x * 0).flatten(2).abs().sqrt(), To(), start(), 3, 0.1)
    with pytest.raises(UserError, match="decoder or vocoder has none"):
        search(lambda x: x.detach().flatten(2), To(), start(), 3, 0.1)
