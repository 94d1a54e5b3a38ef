"""The one residual form of every network here, and how modulations reach it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from glissando.conditioning.base import Mechanism, Modulation, Signals


class ModulatedNorm(nn.Module):
    """norm(x) * (1 + scale) + shift, and the gate, from every mechanism that modulates.

    Several modulations add their shifts and scales and multiply their gates.

    Args:
        norm: a module over x.
        width: x's number of features.
        mechanisms: those of the network, by name; each is asked for a modulation.
        role: the branch's kind, see `Mechanism.modulation_for`.
        gated: whether the caller uses the gate.
        features: where x has its features: -1 for tokens (B, N, D), 1 for maps (B, C, F, T).
    """

    def __init__(
        self,
        norm: nn.Module,
        width: int,
        mechanisms: Mapping[str, Mechanism],
        role: str,
        gated: bool = True,
        features: int = -1,
    ) -> None:
        super().__init__()
        self.norm = norm
        asked = {name: m.modulation_for(width, role, gated) for name, m in mechanisms.items()}
        self.modulations = nn.ModuleDict({n: m for n, m in asked.items() if m is not None})
        self.features = features

    def forward(self, x: Tensor, signals: Signals) -> tuple[Tensor, Tensor | None]:
        made = [module(signals[name]) for name, module in self.modulations.items()]
        if not made:
            return self.norm(x), None
        shift, scale, gate = _combined(made)
        if isinstance(self.norm, nn.LayerNorm) and _by_clip(x):
            y = _layer_norm_by_clip(self.norm, x, shift, scale)
        else:
            y = self.norm(x)
            y = torch.addcmul(self._spread(shift, y), y, 1 + self._spread(scale, y))
        return y, None if gate is None else self._spread(gate, x)

    def _spread(self, part: Tensor, like: Tensor) -> Tensor:
        """(B, D) so that it broadcasts over `like`, and in its type.

        That is float32 under autocast: 1 + scale would have but three digits in bfloat16.
        """
        shape = [len(part)] + [1] * (like.ndim - 1)
        shape[self.features] = -1
        return part.to(like.dtype).view(shape)


def _by_clip(x: Tensor) -> bool:
    """Whether to norm clip by clip: on a processor in training, unless clips are tiny.

    A clip's scale and shift are then a layer norm's own weight and bias, one operation with one
    gradient, two to four times as fast as to modulate after it, whose gradients are sums over
    tokens. On the way forward alone it gains nothing.
    """
    one_by_one = x.device.type == "cpu" and torch.is_grad_enabled()
    return one_by_one and not torch.compiler.is_compiling() and x[0].numel() >= 2**13


def _layer_norm_by_clip(norm: nn.LayerNorm, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(B, ..., D) normed, times its gain (1 + `scale`), plus its bias likewise and `shift`."""
    wide = torch.promote_types(x.dtype, torch.float32)  # see `_spread`
    weight, bias = 1 + scale.to(wide), shift.to(wide)
    if norm.bias is not None:
        bias = bias + weight * norm.bias
    if norm.weight is not None:
        weight = weight * norm.weight
    clips = zip(x.unbind(), weight.unbind(), bias.unbind(), strict=True)
    return torch.stack(
        [fn.layer_norm(c, norm.normalized_shape, w, b, norm.eps) for c, w, b in clips]
    )


def _combined(made: list[Modulation]) -> Modulation:
    total = made[0]
    for one in made[1:]:
        gates = [gate for gate in (total.gate, one.gate) if gate is not None]
        gate = gates[0] * gates[1] if len(gates) == 2 else next(iter(gates), None)
        total = Modulation(total.shift + one.shift, total.scale + one.scale, gate)
    return total


class Branch(nn.Module):
    """x + gate * f(norm(x) * (1 + scale) + shift); without modulation x + f(norm(x))."""

    def __init__(self, inner: nn.Module, norm: ModulatedNorm) -> None:
        super().__init__()
        self.norm = norm
        self.inner = inner

    def forward(self, x: Tensor, signals: Signals, *args: object) -> Tensor:
        """`args` go to the inner function."""
        y, gate = self.norm(x, signals)
        y = self.inner(y, *args)
        return x + y if gate is None else torch.addcmul(x, gate, y.to(x.dtype))
