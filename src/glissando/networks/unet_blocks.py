"""What the U-Net is made of: convolutions that cannot see padding, and its residual block.

Shapes: B batch, F frequency, T time, D features, P prefix tokens. Maps are (B, F, T, D), features
last: norms, fusions and modulations are then the transformer's own, a map's tokens are a view of
it, and convolutions run in the layout that suits them best (channels_last).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from glissando.conditioning.base import Signals, Tokens, join
from glissando.networks.attention import Rotary, rotary
from glissando.networks.branch import Branch
from glissando.networks.transformer import TransformerBlock

Pair = tuple[int, int]
_L = TypeVar("_L", bound=nn.Linear | nn.Conv2d | nn.ConvTranspose2d)


class Scene(NamedTuple):
    """What all blocks of a level see in one call of the network."""

    mask: Tensor | None  # (B, T), True = a real frame; None = all are
    keys: Tensor | None = None  # (B, F T), the same for the level's tokens
    positions: Rotary | None = None
    prefix: Tokens | None = None  # keys and values besides the level's own tokens


def hide(x: Tensor, mask: Tensor | None) -> Tensor:
    """x (B, F, T, D) with zeros in the frames that are not real."""
    return x if mask is None else torch.where(mask[:, None, :, None], x, 0)


def coarser(mask: Tensor | None, factor: int) -> Tensor | None:
    """(B, T) -> (B, T / factor, rounded up): a frame is real if any that it stands for is."""
    if mask is None or factor == 1:
        return mask
    return fn.pad(mask, (0, -mask.shape[1] % factor)).unflatten(1, (-1, factor)).any(dim=2)


def unit_variance(layer: _L) -> _L:
    """Initializes a layer such that it keeps the variance of independent features; no offset.

    For the layers that the residual stream itself goes through. Those in branches come after a
    norm and keep PyTorch's own start.
    """
    fan_in = layer.weight[0].numel()
    if isinstance(layer, nn.ConvTranspose2d):  # (in, out, kernel), each output sees kernel / stride
        fan_in = layer.in_channels * math.prod(layer.kernel_size) / math.prod(layer.stride)
    nn.init.normal_(layer.weight, std=fan_in**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Conv(nn.Module):
    """Convolution of maps onto a grid that is `factor` times coarser, rounded up.

    A kernel is `kernel + factor - 1` wide: the cell of `factor` inputs that becomes one output, and
    kernel // 2 neighbours on either side. The input beyond its end, and where it is not real, is 0.
    """

    def __init__(self, width: int, out: int, kernel: Pair, factor: Pair = (1, 1)) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(width, out, *_geometry(kernel, factor))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, F, T, width), `mask` (B, T) -> (B, F / ff, T / ft, out), rounded up."""
        x, (ff, ft) = hide(x, mask), self.factor
        if x.shape[1] % ff or x.shape[2] % ft:
            x = fn.pad(x, (0, 0, 0, -x.shape[2] % ft, 0, -x.shape[1] % ff))
        return self.conv(x.movedim(-1, 1)).movedim(1, -1)


class Up(nn.Module):
    """The transpose of `Conv`: onto a grid that is `factor` times finer."""

    def __init__(self, width: int, out: int, kernel: Pair, factor: Pair) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(width, out, *_geometry(kernel, factor))

    def forward(self, x: Tensor, mask: Tensor | None, rows: int, columns: int) -> Tensor:
        """x (B, F, T, width), `mask` (B, T) -> (B, rows, columns, out), the end cut off."""
        y = self.conv(hide(x, mask).movedim(-1, 1)).movedim(1, -1)
        return y[:, :rows, :columns]


def _geometry(kernel: Pair, factor: Pair) -> tuple[Pair, Pair, Pair]:
    """Size, stride and padding of the convolution."""
    (kf, kt), (ff, ft) = kernel, factor
    return (kf + ff - 1, kt + ft - 1), factor, (kf // 2, kt // 2)


class Convolutions(nn.Module):
    """SiLU, convolution, norm, SiLU, convolution: the branch of a residual block (He et al. 2016).

    With the norm of its `Branch` in front, which is modulated, this is the block of DDPM (Ho et al.
    2020) and of latent diffusion.
    """

    def __init__(self, width: int, kernel: Pair, norm: nn.Module) -> None:
        super().__init__()
        self.first = Conv(width, width, kernel)
        self.norm = norm
        self.second = Conv(width, width, kernel)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.first(fn.silu(x), mask)
        return self.second(fn.silu(self.norm(y)), mask)


class UNetBlock(nn.Module):
    """Convolutions, and a transformer block over all points of the map where the level attends."""

    def __init__(self, convolutions: Branch, transformer: TransformerBlock | None) -> None:
        super().__init__()
        self.convolutions = convolutions
        self.transformer = transformer

    def forward(self, x: Tensor, signals: Signals, scene: Scene) -> Tensor:
        """x (B, F, T, D) -> the same shape."""
        x = self.convolutions(x, signals, scene.mask)
        if self.transformer is None:
            return x
        tokens = x.flatten(1, 2)
        tokens = self.transformer(tokens, signals, scene.positions, scene.keys, scene.prefix)
        return tokens.unflatten(1, x.shape[1:3])


class Level(nn.Module):
    """The blocks of one resolution: `depth` on the way down and one more on the way up.

    As in DDPM, each block on the way up first takes in a skip: the outputs of the blocks on the way
    down, last one first, and at the end what entered the level.

    Args:
        block: makes a block of `width` features.
        heads: of what attends at this resolution, or 0 if nothing does.
        prefixes: by name, modules that make tokens of `width` of the mechanisms' signals.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        block: Callable[[], UNetBlock],
        prefixes: nn.ModuleDict,
    ) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.prefixes = prefixes
        self.encoder = nn.ModuleList(block() for _ in range(depth))
        self.fusions = nn.ModuleList(
            unit_variance(nn.Linear(2 * width, width)) for _ in range(depth + 1)
        )
        self.decoder = nn.ModuleList(block() for _ in range(depth + 1))

    def scene(self, x: Tensor, mask: Tensor | None, signals: Signals, positions: bool) -> Scene:
        """What the level's blocks see besides their own x (B, F, T, D)."""
        if not self.heads:
            return Scene(mask)
        rows, columns = x.shape[1:3]
        keys = None if mask is None else mask.repeat(1, rows)
        prefix = self._prefix(signals)
        if not positions:
            return Scene(mask, keys, None, prefix)
        count = 0 if prefix is None else prefix.value.shape[1]
        turning = self.width // self.heads // 2 * 2
        return Scene(mask, keys, rotary(rows, columns, count, turning, 1e4, x.device), prefix)

    def _prefix(self, signals: Signals) -> Tokens | None:
        """All prefixes in one row, normalized as the tokens are beside which they stand."""
        if not self.prefixes:
            return None
        tokens = join([module(signals[name]) for name, module in self.prefixes.items()])
        return Tokens(fn.layer_norm(tokens.value, (self.width,)), tokens.mask)
