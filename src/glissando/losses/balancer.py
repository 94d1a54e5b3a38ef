"""Weights of losses that do not depend on the losses' scales."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from glissando.errors import UserError


class Balancer(nn.Module):
    """Gives each term of a loss its share of the gradient at what a generator made.

    A term's gradient there, g, is divided by a moving average of its size |g| (its norm in a clip,
    averaged over clips): the whole is the sum of w / W g / <|g|>, w being the terms' weights and
    W their sum (EnCodec: Defossez et al. 2022, arXiv:2210.13438, section 3.4). The weights then
    say how much of a step each term decides, whatever its unit.

    Args:
        names: of all terms that there may be.
        decay: of the moving averages, from 0 to below 1; their start is corrected for (Kingma & Ba
            2015, section 3).

    Raises UserError for another decay.
    """

    total: Tensor
    weight: Tensor

    def __init__(self, names: Iterable[str], decay: float = 0.999) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise UserError(
                f"vae.balance or gan.balance={decay} must be a decay from 0 to below 1, or null"
            )
        self.names, self.decay = list(names), decay
        self.register_buffer("total", torch.zeros(len(self.names), dtype=torch.float64))
        self.register_buffer("weight", torch.zeros(len(self.names), dtype=torch.float64))

    def forward(
        self,
        terms: Mapping[str, Tensor],
        weights: Mapping[str, float],
        made: Tensor,
        mean: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> Tensor:
        """A scalar: the sum of ``terms``, with the balanced gradient.

        Args:
            terms: by name, scalars that depend on ``made`` (B, ...), weighted already.
            weights: of these terms.
            mean: over processes, so that all have the same averages.
        """
        grads = [torch.autograd.grad(t, made, retain_graph=True)[0] for t in terms.values()]
        sizes = mean(torch.stack([g.detach().flatten(1).norm(dim=1).mean() for g in grads]))
        share = sum(weights[name] for name in terms)
        balanced = torch.zeros_like(made)
        for name, grad, size in zip(terms, grads, sizes, strict=True):
            balanced += weights[name] / share * grad / self._averaged(name, size).clamp_min(1e-12)
        value = torch.stack(list(terms.values())).sum().detach()
        pull = (balanced * made).sum()
        return value + (pull - pull.detach())

    def _averaged(self, name: str, size: Tensor) -> Tensor:
        index = self.names.index(name)
        if size.isfinite():  # else the step is skipped, and must not be remembered
            self.total[index].mul_(self.decay).add_((1 - self.decay) * size)
            self.weight[index].mul_(self.decay).add_(1 - self.decay)
        return (self.total[index] / self.weight[index]).to(size.dtype)
