"""Channel concatenation: the condition as more channels of the latent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from glissando.condition import Condition, Local, Sequence, Sizes, Vector
from glissando.conditioning.base import NOISE, Mechanism, mlp
from glissando.errors import UserError

Signal = list[tuple[Tensor, Tensor | None]]  # per entry: its projection, and a sequence's mask


class ChannelConcat(Mechanism):
    """Every entry is projected to `each` channels, laid along the latent and concatenated to it.

    A time-aligned entry is projected point by point; a vector stands at every point; a sequence is
    stretched over the clip's real length by linear interpolation between its real tokens (so text
    gets a temporality that it may not have: the chapter's caveat).

    Args:
        each: channels that each entry becomes, at least 1.
    """

    carries: ClassVar = (Vector, Sequence, Local)
    noise_rank: ClassVar = 4

    def __init__(self, sizes: Sizes, reads: Iterable[str], width: int, each: int = 32) -> None:
        super().__init__(sizes, reads, width)
        if each < 1:
            raise UserError(f"conditioning.channel_concat.each={each} must be at least 1")
        self.channels = each * len(self.reads)
        self.layers = nn.ModuleDict(
            {
                name: mlp(size.dim, each) if name == NOISE else nn.Linear(size.dim, each)
                for name, size in self.sizes.items()
            }
        )

    def forward(self, condition: Condition) -> Signal:
        out: Signal = []
        for name, layer in self.layers.items():
            entry = condition[name]
            if isinstance(entry, Local):
                out.append((layer(entry.value.movedim(1, -1)).movedim(-1, 1), None))
            elif isinstance(entry, Sequence):
                out.append((layer(entry.value), entry.mask))
            else:
                out.append((layer(entry.value)[:, :, None, None], None))
        return out

    def widen(self, z: Tensor, signal: Signal, mask: Tensor | None) -> Tensor:
        rows, frames = z.shape[2:]
        lengths = (
            torch.full((len(z),), frames, device=z.device) if mask is None else mask.sum(dim=1)
        )
        parts = [z]
        for value, real in signal:
            if real is not None:
                value = stretch(value, real, lengths, frames).transpose(1, 2)[:, :, None]
            if value.shape[2] not in (1, rows) or value.shape[3] not in (1, frames):
                raise ValueError(
                    f"a time-aligned condition has {tuple(value.shape[2:])} rows and frames, "
                    f"the latent {(rows, frames)}"
                )
            parts.append(value.expand(-1, -1, rows, frames).to(z.dtype))
        return torch.cat(parts, dim=1)


def stretch(tokens: Tensor, mask: Tensor, lengths: Tensor, frames: int) -> Tensor:
    """Tokens (B, S, D) laid over time (B, frames, D), linear between neighbours.

    The real ones (mask (B, S)) of a clip are spread over its first `lengths` (B,) frames as pixels
    are when an image is resized (half-pixel centres); frames after that repeat the last token. A
    clip without a real token gets zeros.
    """
    if not tokens.shape[1]:
        return tokens.new_zeros(len(tokens), frames, tokens.shape[2])
    order = mask.to(torch.int8).argsort(dim=1, descending=True, stable=True)  # real ones first
    count = mask.sum(dim=1, keepdim=True)
    time = torch.arange(frames, device=tokens.device) + 0.5
    place = time * count / lengths.clamp(min=1)[:, None] - 0.5  # (B, frames)
    place = torch.minimum(place.clamp(min=0), (count - 1).clamp(min=0))
    low = place.floor().long()
    high = torch.minimum(low + 1, (count - 1).clamp(min=0))
    share = (place - low)[..., None].to(tokens.dtype)

    def pick(which: Tensor) -> Tensor:
        index = order.gather(1, which)[..., None].expand(-1, -1, tokens.shape[-1])
        return tokens.gather(1, index)

    return torch.lerp(pick(low), pick(high), share) * (count > 0)[..., None]
