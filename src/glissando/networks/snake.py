"""The snake activation (Ziyin et al. 2020, arXiv:2006.08195), in BigVGAN's two-parameter form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    """x + sin^2(a x) / (b + 1e-9) per channel of (B, T, C); a and b are stored as logarithms.

    One operation with one gradient: written out, it is five passes over the largest tensors of an
    autoencoder, each into new memory, and autograd keeps four of them. Computed in float32 at
    least, returned in the type of x; differentiable once.

    Args:
        inplace: x is overwritten where no gradient is recorded.
    """

    def __init__(self, channels: int, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return _Snake.apply(x, self.alpha, self.beta)
        x = x.contiguous()
        return _snake(x, self.alpha, self.beta, x if self.inplace else torch.empty_like(x))


class _Snake(torch.autograd.Function):
    """Keeps x alone for the way back and computes the rest anew."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        x = x.contiguous()
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
        grad, divisor = grad.contiguous(), b + _EPS
        grad_x, grad_alpha, grad_beta = (
            torch.empty_like(x),
            torch.zeros_like(a),
            torch.zeros_like(b),
        )
        for piece, given, out in _tiles(x, grad, grad_x):
            phase = piece * (2 * a)
            grad_beta += _overwritten(phase.clone(), Tensor.cos_, np.cos).sub_(1).mul_(given).sum(0)
            tilt = _overwritten(phase, Tensor.sin_, np.sin).mul_(given).mul_(a / divisor)
            grad_alpha += (tilt * piece).sum(0)
            torch.add(given, tilt, out=out)
        return grad_x, grad_alpha, grad_beta * b / (2 * divisor.square())


def _snake(x: Tensor, alpha: Tensor, beta: Tensor, out: Tensor) -> Tensor:
    """Of a contiguous x into ``out``, which may be x."""
    a, scale = alpha.exp(), (beta.exp() + _EPS).rsqrt()
    for piece, result in _tiles(x, out):
        wave = _overwritten(piece * a, Tensor.sin_, np.sin).mul_(scale)
        torch.addcmul(piece, wave, wave, out=result)
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


def _tiles(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Each (B, T, C) as views (rows, C) that fit a cache; as a whole where there is a GPU."""
    channels = tensors[0].shape[-1]
    most = TILE // channels if tensors[0].device.type == "cpu" else tensors[0].numel()
    parts = (each.view(-1, channels).split(max(1, most)) for each in tensors)
    return zip(*parts, strict=True)
