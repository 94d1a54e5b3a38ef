"""Long audio in overlapping chunks: what one pass would give, in bounded memory.

Frame k of a latent belongs to block k, the samples from k hop to (k + 1) hop. In a codec of finite
``reach`` a frame sees, and is heard in, no block further than ``reach`` from its own. So a chunk
that is coded with ``reach`` frames more on either side, which are then thrown away, is the very
part of the whole; at the ends of a clip a chunk ends as the clip does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

CHUNK = 2**18
"""Samples that are coded at once: 6 to 12 seconds of music."""

_FIRST, _LAST = 64, 4096  # frames that a reach is looked for in


def encode(
    piece: Callable[[Tensor], Tensor], wave: Tensor, hop: int, frames: int, reach: int
) -> Tensor:
    """(..., L) -> (..., frames) as ``piece(wave)`` gives it."""
    latent: Tensor | None = None
    for first, last, left, right in _spans(frames, hop, reach):
        part = piece(wave[..., left * hop : right * hop])[..., first - left : last - left]
        if latent is None:
            latent = part.new_empty(*part.shape[:-1], frames)
        latent[..., first:last] = part
    assert latent is not None
    return latent


def decode(
    piece: Callable[[Tensor, int], Tensor], z: Tensor, length: int, hop: int, reach: int
) -> Tensor:
    """(..., T) -> (..., length) as ``piece(z, length)`` gives it."""
    wave: Tensor | None = None
    for first, last, left, right in _spans(-(-length // hop), hop, reach):
        begin, end = first * hop, min(last * hop, length)
        part = piece(z[..., left:right], end - left * hop)[..., begin - left * hop :]
        if wave is None:
            wave = part.new_empty(*part.shape[:-1], length)
        wave[..., begin:end] = part
    assert wave is not None
    return wave


def _spans(frames: int, hop: int, reach: int) -> Iterator[tuple[int, int, int, int]]:
    """Frames [first, last) of each chunk, and [left, right) that it is coded from."""
    core = max(CHUNK // hop, 4 * reach)  # at most half as much again for the overlaps
    for first in range(0, frames, core):
        last = min(first + core, frames)
        yield first, last, max(first - reach, 0), last + reach


@torch.no_grad()
def reach_of(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor, int], Tensor],
    like: Tensor,
    hop: int,
) -> int | None:
    """The reach of a codec, found by sending what is not a number through it.

    NaN passes through every sum and product, so where it comes out is what depends on it, whatever
    the weights are. None if no clip of 4096 frames holds it: something in there sees all of a clip.

    Args:
        encode: (1, A, L) -> (1, C, F, T); decode: its inverse, with a length.
        like: (1, A, any), for the number of channels, the type and the device.
    """
    frames = _FIRST
    while frames <= _LAST:
        wave = like.new_zeros(*like.shape[:-1], frames * hop)
        z = torch.zeros_like(encode(wave))
        middle = frames // 2
        wave[..., middle * hop : (middle + 1) * hop] = torch.nan
        z[..., middle] = torch.nan
        seen = encode(wave).isnan().flatten(0, -2).any(0).nonzero()
        heard = decode(z, frames * hop).isnan().flatten(0, -2).any(0).nonzero() // hop
        touched = torch.cat([seen, heard])
        if touched.min() > 0 and touched.max() < frames - 1:
            return int((touched - middle).abs().max())
        frames *= 4
    return None
