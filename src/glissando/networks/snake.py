"""The snake activation (Ziyin et al. 2020, arXiv:2006.08195), also in BigVGAN's two parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

TILE = 2**17
"""Values that go through all of a snake's operations before the next ones do, on a processor:
half a megabyte, which a core's cache holds."""

_EPS = 1e-9  # beside b, as in Stable Audio


class Snake(nn.Module):
    """x + sin^2(a x) / (b + 1e-9) per channel of (B, C, T); a and b are stored as logarithms.

    One operation with one gradient: written out, it is five passes over the largest tensors of an
    autoencoder, each into new memory, and autograd keeps four of them. Computed in float32 at
    least, returned in the type of x and in its layout, channels first or last in memory;
    differentiable once.

    Args:
        inplace: x is overwritten where no gradient is recorded.
        two: whether b is learned; otherwise it is a, as in DAC.
    """

    def __init__(self, channels: int, inplace: bool = False, two: bool = True) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels)) if two else None
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        if not _channels_last(x):
            x = x.contiguous()
        beta = self.alpha if self.beta is None else self.beta
        if torch.is_grad_enabled():
            return _Snake.apply(x, self.alpha, beta)
        return _snake(x, self.alpha, beta, x if self.inplace else torch.empty_like(x))


class _Snake(torch.autograd.Function):
    """Keeps x alone for the way back and computes the rest anew."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        ctx.save_for_backward(x, alpha, beta)
        return _snake(x, alpha, beta, torch.empty_like(x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """With p = 2 a x and d = b + 1e-9: dy/dx = 1 + sin(p) a / d, dy/d(log a) = x sin(p) a / d,
        dy/d(log b) = -sin^2(p / 2) b / d^2 = (cos(p) - 1) b / (2 d^2).
        """
        x, alpha, beta = ctx.saved_tensors
        a, b = alpha.exp(), beta.exp()
        divisor, grad_x = b + _EPS, torch.empty_like(x)
        grad = grad.mT.contiguous().mT if _channels_last(x) else grad.contiguous()
        full = [_matrix(each) for each in (x, grad, grad_x)]
        slopes = [_beside(each, x) for each in (2 * a, a / divisor)]
        by_alpha, by_beta = (torch.zeros_like(slopes[0]) for _ in range(2))
        for values, given, out, twice, slope, sum_alpha, sum_beta in _tiles(
            *full, *slopes, by_alpha, by_beta
        ):
            phase = values * twice
            cosine = _overwritten(phase.clone(), Tensor.cos_, np.cos)
            sum_beta += cosine.sub_(1).mul_(given).sum_to_size(sum_beta.shape)
            tilt = _overwritten(phase, Tensor.sin_, np.sin).mul_(given).mul_(slope)
            torch.add(given, tilt, out=out)
            sum_alpha += tilt.mul_(values).sum_to_size(sum_alpha.shape)
        grad_alpha, grad_beta = (each.view(-1, len(a)).sum(0) for each in (by_alpha, by_beta))
        return grad_x, grad_alpha, grad_beta * b / (2 * divisor.square())


def _snake(x: Tensor, alpha: Tensor, beta: Tensor, out: Tensor) -> Tensor:
    """Of a dense x into ``out``, which may be x."""
    a, scale = (_beside(each, x) for each in (alpha.exp(), (beta.exp() + _EPS).rsqrt()))
    for values, result, rate, size in _tiles(_matrix(x), _matrix(out), a, scale):
        wave = _overwritten(values * rate, Tensor.sin_, np.sin).mul_(size)
        torch.addcmul(values, wave, wave, out=result)
    return out


def _overwritten(x: Tensor, form: Callable[[Tensor], Tensor], numpy_form: np.ufunc) -> Tensor:
    """x overwritten with a function of it.

    NumPy's sine takes half the time of torch's (``benchmarks/README.md``), but one thread only.
    """
    plain = type(x) is Tensor and x.device.type == "cpu" and x.dtype == torch.float32
    if plain and torch.get_num_threads() <= 2:
        with np.errstate(invalid="ignore"):  # of infinity, NaN: torch says nothing either
            numpy_form(x.numpy(), out=x.numpy())
        return x
    return form(x)


def _channels_last(x: Tensor) -> bool:
    return x.mT.is_contiguous()


def _matrix(x: Tensor) -> Tensor:
    """A dense (B, C, T) as it lies in memory: (B T, C) or (B C, T)."""
    return (x.mT if _channels_last(x) else x).flatten(0, 1)


def _beside(each: Tensor, x: Tensor) -> Tensor:
    """(C,) as what broadcasts with ``_matrix(x)``: (1, C) or (B C, 1)."""
    return each[None] if _channels_last(x) else each.repeat(len(x))[:, None]


def _tiles(*matrices: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The rows of all matrices, a few that fit a cache at a time; all at once on a GPU.

    Whatever has not as many rows as the first goes with each of them.
    """
    rows, width = matrices[0].shape
    most = max(1, TILE // max(1, width) if matrices[0].device.type == "cpu" else rows)
    return zip(*(m.split(most) if len(m) == rows else repeat(m) for m in matrices), strict=False)
