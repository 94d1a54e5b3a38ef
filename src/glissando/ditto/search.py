"""The search for the noise: Adam on x_T, each clip for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glissando.ditto.base import Aim, Sound, Target
from glissando.errors import UserError

Play = Callable[[Tensor], Tensor]
"""Unit noise (B, C, F, T) -> waveforms (B, A, L), through sampler and decoder."""


class Search:
    """A target for clips of one ``sound``: first finds their noise, then says what they reached."""

    def __init__(self, target: Target, sound: Sound, device: torch.device) -> None:
        self.target, self.aim = target, target.aim(sound).to(device)
        self.losses: list[list[float]] = []

    def __call__(self, play: Play, noise: Tensor, progress: Callable[[int], None]) -> Tensor:
        """The noise (B, C, F, T) to sample from; ``progress`` is told the iterations done."""
        target = self.target

        def watch(done: int, loss: float) -> None:
            target.loss = loss
            progress(done)

        found = search(play, self.aim, noise, target.iterations, target.lr, target.tolerance, watch)
        self.losses = found.losses
        return found.noise

    @torch.no_grad()
    def told(self, waves: Tensor) -> list[dict[str, Any]]:
        """What is to be said of each clip of ``waves`` (B, A, L), those last searched for.

        ``search``: its loss at each iteration and in the end, and what was wanted and reached.
        """
        waves = waves.to(next(self.aim.buffers()).device)
        rows = zip(self.losses, self.aim(waves).tolist(), self.aim.told(waves), strict=True)
        return [{"search": {"losses": losses, "loss": loss, **told}} for losses, loss, told in rows]


class Found(NamedTuple):
    """The best noise (B, C, F, T), and for each clip its loss at each iteration."""

    noise: Tensor
    losses: list[list[float]]


@torch.enable_grad()
def search(
    play: Play,
    aim: Aim,
    noise: Tensor,
    iterations: int,
    lr: float,
    tolerance: float = 0.0,
    progress: Callable[[int, float], None] | None = None,
) -> Found:
    """The noise, from ``noise`` on, for which ``aim(play(noise))`` is least (DITTO, algorithm 1).

    An iteration samples once and differentiates. A clip keeps the best noise that it had, and is
    done at the first whose loss is at most ``tolerance``. The loss is summed over clips and Adam
    works on each number by itself, so that no clip depends on the others. ``progress`` is called
    with the iterations done and the mean of the clips' least losses.

    Raises UserError where there is no gradient, or one that is not finite.
    """
    x = noise.detach().clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=lr)
    best, least = x.detach().clone(), torch.full((len(x),), torch.inf, device=x.device)
    losses: list[list[float]] = [[] for _ in x]
    for done in range(1, iterations + 1):
        loss = aim(play(x))
        now, searching = loss.detach().to(least), least > tolerance
        if not now.isfinite().all():
            raise UserError("the loss of ditto became NaN or infinite: try a smaller ditto.lr")
        for row, value, wanted in zip(losses, now.tolist(), searching.tolist(), strict=True):
            row.extend([value] if wanted else [])
        better = searching & (now < least)
        best = torch.where(better[:, None, None, None], x.detach(), best)
        least = torch.where(better, now, least)
        if progress is not None:
            progress(done, float(least.mean()))
        if done == iterations or not (least > tolerance).any():
            break
        x.grad = gradient(loss, x)
        adam.step()
    return Found(best, losses)


def gradient(loss: Tensor, x: Tensor) -> Tensor:
    """Of the sum of ``loss`` (B,) by ``x``. Raises UserError if it is not finite or not there."""
    if not loss.requires_grad:
        raise UserError("ditto needs a gradient, and this model's decoder or vocoder has none")
    (slope,) = torch.autograd.grad(loss.sum(), x)
    if not slope.isfinite().all():
        raise UserError("the gradient of ditto became NaN or infinite: try a smaller ditto.lr")
    return slope
