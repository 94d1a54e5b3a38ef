"""What every mechanism promises a network, and the few pieces that mechanisms share.

A mechanism reads its entries of the `Condition` once per call of the network and returns a
*signal*, in whatever form suits it. What it planted in the network when that was built (tokens,
modulations, sublayers, channels) turns the signal into something local. So the work that all blocks
share is done once, and DiT and U-Net are served by the same hooks.

Shapes: B batch, P prefix tokens, S tokens, D features, C channels, F frequency, T time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from glissando.condition import Condition, Entry, Sequence, Sizes, Vector
from glissando.errors import UserError

NOISE = "noise"  # the one entry that the network adds itself: features of the noise level


class Modulation(NamedTuple):
    """What a residual branch `x + gate * f(norm(x) * (1 + scale) + shift)` takes, each (B, D)."""

    shift: Tensor
    scale: Tensor
    gate: Tensor | None = None  # None is a gate of one


class Tokens(NamedTuple):
    """Tokens to attend to: `value` (B, S, D), `mask` (B, S), True = real; None = all are real."""

    value: Tensor
    mask: Tensor | None = None


class Mechanism(nn.Module):
    """Carries those of the entries `reads` that exist, and that it can carry, into a network.

    Args:
        sizes: kind and D of every entry of the condition, with `noise` if this one is to read it.
        reads: names of entries, in order. `self.reads` keeps those that it can carry.
        width: D of what the mechanism makes of its entries, usually the network's own width.
    """

    carries: ClassVar[tuple[type, ...]] = (Vector, Sequence)
    # Of several mechanisms that name `noise` in `reads`, the lowest rank alone gets it.
    noise_rank: ClassVar[int]
    channels: int = 0  # how many channels `widen` adds

    def __init__(self, sizes: Sizes, reads: Iterable[str], width: int) -> None:
        super().__init__()
        self.reads = readable(type(self), sizes, reads)
        self.sizes = {name: sizes[name] for name in self.reads}
        self.width = width

    def forward(self, condition: Condition) -> Any:
        """The signal: what the modules planted by the hooks below are called with."""
        raise NotImplementedError

    def widen(self, z: Tensor, signal: Any, mask: Tensor | None) -> Tensor:
        """z (B, C, F, T) with `self.channels` more channels; `mask` (B, T), True = real."""
        return z

    def prefix_for(self, width: int) -> nn.Module | None:
        """A module: signal -> `Tokens` (B, P, width) that join the latent's own."""
        return None

    def modulation_for(self, width: int, role: str, gated: bool = True) -> nn.Module | None:
        """A module: signal -> `Modulation` of one residual branch.

        `role` names the branch's kind (`attention`, `feedforward`, `final` ...), the same in every
        block; without `gated` the branch has no use for a gate.
        """
        return None

    def sublayer_for(self, width: int, heads: int) -> nn.Module | None:
        """A module: (x (B, N, width), signal) -> (B, N, width), one more residual branch a block.

        It must return zeros when the network is new, so that it does not disturb the block.
        """
        return None


def readable(kind: type[Mechanism], sizes: Sizes, reads: Iterable[str]) -> list[str]:
    """Those of `reads` which exist in `sizes` and are of a kind that this mechanism carries."""
    return [name for name in reads if name in sizes and issubclass(sizes[name].kind, kind.carries)]


def zero(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> Any:
    """Zero-initializes a layer and returns it.

    The one place for it. Zero at start are: the regression of AdaLN-Zero and AdaLN-single, so that
    each block is the identity (Peebles & Xie 2023, sec. 3.2); the output of a sublayer that a
    mechanism adds to a block (Chen et al. 2023, PixArt-alpha, sec. 2.3), for the same reason; the
    network's last projection, so that a new network predicts the mean, 0; and the residual 1x1
    convolutions at its ends.
    """
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def mlp(dim: int, width: int, bias: bool = True) -> nn.Sequential:
    """Linear, SiLU, Linear: dim -> width."""
    return nn.Sequential(
        nn.Linear(dim, width, bias=bias), nn.SiLU(), nn.Linear(width, width, bias=bias)
    )


def as_tokens(entry: Entry) -> Tokens:
    """A sequence's tokens, or a vector as one token (D unchanged)."""
    if isinstance(entry, Sequence):
        return Tokens(entry.value, entry.mask)
    return Tokens(entry.value[:, None])


def join(parts: list[Tokens]) -> Tokens:
    """All tokens in one row; a mask only if some part has one."""
    value = torch.cat([part.value for part in parts], dim=1)
    if all(part.mask is None for part in parts):
        return Tokens(value)
    masks = [
        part.mask
        if part.mask is not None
        else torch.ones(part.value.shape[:2], dtype=torch.bool, device=value.device)
        for part in parts
    ]
    return Tokens(value, torch.cat(masks, dim=1))


class Pooled(nn.Module):
    """Vectors -> one vector (B, width): an MLP of the noise level plus one of all the others.

    As the DiT's timestep + label embedding, and Stable Audio Open's timestep + global embedding:
    the vectors other than `noise` are concatenated in order.
    """

    def __init__(self, sizes: Sizes, width: int, bias: bool = True) -> None:
        super().__init__()
        self.names = [name for name in sizes if name != NOISE]
        self.noise = mlp(sizes[NOISE].dim, width) if NOISE in sizes else None
        dim = sum(sizes[name].dim for name in self.names)
        self.others = mlp(dim, width, bias) if self.names else None

    def forward(self, condition: Condition) -> Tensor:
        parts: list[Tensor] = []
        if self.noise is not None:
            parts.append(self.noise(condition[NOISE].value))
        if self.others is not None:
            vectors = [condition[name].value for name in self.names]
            parts.append(self.others(torch.cat(vectors, dim=-1)))
        return sum(parts[1:], start=parts[0])


class Embed(nn.Module):
    """Each entry -> tokens (B, S, width), by a projection of its own (an MLP for `noise`).

    With `deep`, every projection is a two-layer MLP without bias, as Stable Audio Open's. With
    `shared`, all entries but `noise` have the same one, as there, and must be of one width.

    Raises UserError where they are not.
    """

    def __init__(self, sizes: Sizes, width: int, deep: bool = False, shared: bool = False) -> None:
        super().__init__()
        known = {name: size.dim for name, size in sizes.items() if name != NOISE}
        if shared and len(set(known.values())) > 1:
            raise UserError(
                f"conditioning.cross_attention.shared=true needs entries of one width: {known}; "
                "set their dims alike, or shared=false"
            )
        alike = dict.fromkeys(known, next(iter(known), "")) if shared else {}
        self.layer_of = {name: alike.get(name, name) for name in sizes}
        self.layers = nn.ModuleDict(
            {
                name: mlp(size.dim, width)
                if name == NOISE
                else mlp(size.dim, width, bias=False)
                if deep
                else nn.Linear(size.dim, width)
                for name, size in sizes.items()
                if name in self.layer_of.values()
            }
        )

    def forward(self, condition: Condition) -> list[Tokens]:
        """One `Tokens` per entry, in the order of `sizes`."""
        out: list[Tokens] = []
        for name, layer in self.layer_of.items():
            tokens = as_tokens(condition[name])
            out.append(Tokens(self.layers[layer](tokens.value), tokens.mask))
        return out


Signals = Mapping[str, Any]  # a mechanism's name -> what it read in this call


def read_all(mechanisms: nn.ModuleDict, condition: Condition, noise: Tensor) -> Signals:
    """What each mechanism makes of the condition and the noise level's features `noise` (B, D).

    Raises ValueError where an entry is not what the mechanism was built for, or B differs, and
    KeyError where one is missing.
    """
    known = condition.merge(Condition({NOISE: Vector(noise)}))
    signals: dict[str, Any] = {}
    for name, module in mechanisms.items():
        mechanism = cast("Mechanism", module)
        for entry, size in mechanism.sizes.items():
            kind, dim = type(known[entry]), known[entry].dim
            if (kind, dim) != (size.kind, size.dim):
                raise ValueError(
                    f"{name} was built for {entry!r} as a {size.kind.__name__} of {size.dim} "
                    f"features, not a {kind.__name__} of {dim}"
                )
        signals[name] = mechanism(known)
    return signals
