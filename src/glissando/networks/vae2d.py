"""The convolutional VAE of latent diffusion (Rombach et al. 2022) on spectrograms, as in AudioLDM.

Shapes: B batch, A channels of the map, F frequency, T time, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as fn

from glissando.errors import UserError
from glissando.networks.autoencoder import MapCodec
from glissando.networks.bottlenecks.base import Bottleneck, Coded
from glissando.networks.bottlenecks.kl import KL

Pair = tuple[int, int]


class GroupNorm(nn.GroupNorm):
    """Group norm of (B, D, F, T) over a group's features and rows: of each frame by itself, so
    that a frame sees its neighbours alone, or with ``whole`` over all frames, as published."""

    def __init__(self, width: int, whole: bool) -> None:
        super().__init__(math.gcd(32, width), width, eps=1e-6)
        self.whole = whole

    def forward(self, x: Tensor) -> Tensor:
        if self.whole:
            return super().forward(x)
        frames = x.movedim(3, 1)
        return super().forward(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).movedim(1, 3)


class ResidualBlock(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))), (B, D, F, T) -> (B, out, F, T)."""

    def __init__(self, width: int, out: int, whole: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            GroupNorm(width, whole), nn.SiLU(), nn.Conv2d(width, out, 3, padding=1),
            GroupNorm(out, whole), nn.SiLU(), nn.Conv2d(out, out, 3, padding=1),
        )  # fmt: skip
        self.skip = nn.Identity() if width == out else nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.branch(x)


class Attention(nn.Module):
    """One head over all points of the map: it sees all of a clip. (B, D, F, T) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = GroupNorm(width, whole=True)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x).flatten(2).mT).chunk(3, dim=-1)
        y = fn.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.out(y).mT.unflatten(2, x.shape[2:])


class Down(nn.Module):
    """Onto a grid that is ``factor`` (ff, ft) times coarser; F and T are multiples of it.

    A kernel is factor + 1 wide and begins with its cell, 3 where the factor is 1.
    """

    def __init__(self, width: int, factor: Pair) -> None:
        super().__init__()
        self.pads = [side for f in reversed(factor) for side in ((0, 1) if f > 1 else (1, 1))]
        tall, wide = (f + 1 if f > 1 else 3 for f in factor)
        self.conv = nn.Conv2d(width, width, (tall, wide), factor)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(fn.pad(x, self.pads))


class Up(nn.Module):
    """Onto a grid that is ``factor`` times finer: every point repeated, then smoothed."""

    def __init__(self, width: int, factor: Pair) -> None:
        super().__init__()
        self.factor, self.conv = factor, nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        (ff, ft) = self.factor
        return self.conv(x.repeat_interleave(ff, 2).repeat_interleave(ft, 3))


class MapAutoencoder(MapCodec):
    """Map (B, A, F, T) <-> latent (B, C, ceil(F / rows), ceil(T / columns)).

    Args:
        channels: latent channels C. map_channels: A.
        width: features of the first level; multiples: of each level, over ``width``.
        factors: (ff, ft), how much coarser each level is than the one before: one pair fewer than
            levels. ``rows`` and ``columns`` are their products.
        depth: residual blocks of a level on the way down, one more on the way up.
        attention: whether the middle attends to all of a clip (as published).
        whole_norm: whether norms see all of a clip (as published). With either, long audio cannot
            be coded in chunks.
        bottleneck: latent channels -> bottleneck.

    Raises UserError where factors and levels do not fit.
    """

    def __init__(
        self,
        channels: int = 8,
        map_channels: int = 1,
        width: int = 128,
        multiples: Sequence[int] = (1, 2, 4),
        factors: Sequence[Sequence[int]] = ((2, 2), (2, 2)),
        depth: int = 2,
        attention: bool = False,
        whole_norm: bool = False,
        bottleneck: Callable[[int], Bottleneck] = KL,
    ) -> None:
        super().__init__()
        self.bottleneck = bottleneck(channels)
        inputs = self.bottleneck.inputs
        if len(factors) != len(multiples) - 1 or any(
            len(pair) != 2 or min(pair) < 1 for pair in factors
        ):
            raise UserError(
                f"representation.network.factors={[list(pair) for pair in factors]} must be a "
                "pair [ff, ft] of "
                f"whole numbers from 1 on for each level but the first: {len(multiples) - 1}"
            )
        pairs: list[Pair] = [(int(pair[0]), int(pair[1])) for pair in factors]
        self.channels, self.map_channels = channels, map_channels
        self.rows, self.columns = (math.prod(pair[axis] for pair in pairs) for axis in (0, 1))
        widths = [width * multiple for multiple in multiples]
        first, last = widths[0], widths[-1]

        def middle() -> list[nn.Module]:
            attend = [Attention(last)] if attention else []
            blocks = [ResidualBlock(last, last, whole_norm) for _ in range(2)]
            return [blocks[0], *attend, blocks[1]]

        def level(inner: int, out: int, blocks: int) -> list[nn.Module]:
            ins = [inner] + [out] * (blocks - 1)
            return [ResidualBlock(each, out, whole_norm) for each in ins]

        down: list[nn.Module] = [nn.Conv2d(map_channels, first, 3, padding=1)]
        up: list[nn.Module] = [nn.Conv2d(channels, channels, 1)]
        up += [nn.Conv2d(channels, last, 3, padding=1), *middle()]
        for number, out in enumerate(widths):
            down += level(widths[max(number - 1, 0)], out, depth)
            if number < len(pairs):
                down.append(Down(out, pairs[number]))
        for number in reversed(range(len(widths))):
            above = widths[min(number + 1, len(widths) - 1)]
            up += level(above, widths[number], depth + 1)
            if number:
                up.append(Up(widths[number], pairs[number - 1]))
        down += [*middle(), GroupNorm(last, whole_norm), nn.SiLU()]
        down += [nn.Conv2d(last, inputs, 3, padding=1)]
        down += [nn.Conv2d(inputs, inputs, 1)]
        up += [GroupNorm(first, whole_norm), nn.SiLU()]
        up += [nn.Conv2d(first, map_channels, 3, padding=1)]
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up)

    def size(self, rows: int, columns: int) -> tuple[int, int]:
        return -(-rows // self.rows), -(-columns // self.columns)

    def encode_map(self, x: Tensor) -> Coded:
        """Rows and frames beyond the end are 0, the mean of the data."""
        whole = fn.pad(x, (0, -x.shape[3] % self.columns, 0, -x.shape[2] % self.rows))
        return self.bottleneck(self.encoder(whole))

    def decode_map(self, z: Tensor, rows: int, columns: int) -> Tensor:
        return self.decoder(z)[:, :, :rows, :columns]
