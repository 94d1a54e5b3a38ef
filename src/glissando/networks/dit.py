"""The diffusion transformer (Peebles & Xie 2023) for 1-D and 2-D latents.

Shapes: B batch, C channels, F frequency, T time, N latent tokens, P prefix tokens, D features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as fn
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from glissando.condition import Condition, Sizes
from glissando.conditioning.base import Mechanism, Signals, Tokens, join, read_all, zero
from glissando.conditioning.routing import Specs, assemble
from glissando.errors import UserError
from glissando.networks.attention import Rotary, SelfAttention, rotary
from glissando.networks.branch import ModulatedNorm
from glissando.networks.layers import FeedForward, FourierFeatures
from glissando.networks.transformer import TransformerBlock


def patch_for(channels: int, freqs: int, values: int = 256) -> tuple[int, int]:
    """(pf, pt) for tokens of about ``values`` numbers, as square as a latent (C, F, T) allows."""
    area = max(1, values // channels)
    rows = min(freqs, 2 ** math.ceil(math.log2(area) / 2))
    return rows, max(1, area // rows)


class DiT(nn.Module):
    """Latent patches as tokens through bidirectional transformer blocks, conditioned as one likes.

    Args:
        channels: C of the latent, in and out.
        sizes: the entries of the condition, without the noise level, which the network adds.
        mechanisms: how entries enter: partial mechanisms by name (or a list of them).
        width: D. depth: blocks. heads: attention heads, a divisor of width.
        patch: (pf, pt), rows and frames of a token. A latent they do not divide is padded with
            zeros and the output cropped.
        expansion, gated: the feed-forward's hidden width over D, and SwiGLU (else GELU).
        kv_heads: key/value heads of self-attention; None is as many as heads.
        qk_norm: normalize queries and keys.
        rotary_dim: features of a head that turn with position; None = all, 0 = no positions.
        norm_gain: give layer norms a learned gain.
        norm_eps: added to a norm's variance.
        final_norm: (modulated) layer norm before the last projection.
        end_convs: residual 1x1 convolutions before the first and after the last projection.
        input_gate: add the latent itself to the output, times a factor for each of its values that
            every token projects to (0 at the start). What a velocity holds of the noise then need
            not pass through D features, of which a token of many values has too few.
        attend_padding: attend to masked frames too (and to padding is then up to the mechanisms).
        noise_dim: Fourier features of the noise level.
        share_noise: every mechanism that names `noise` reads it, not only the first in rank.
        checkpointing: recompute each block in the backward pass to save memory.

    Raises UserError for sizes that do not fit together.
    """

    def __init__(
        self,
        channels: int,
        sizes: Sizes,
        mechanisms: Specs,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        patch: Sequence[int] = (1, 1),
        expansion: float = 8 / 3,
        gated: bool = True,
        kv_heads: int | None = None,
        qk_norm: bool = False,
        rotary_dim: int | None = None,
        norm_gain: bool = False,
        norm_eps: float = 1e-5,
        final_norm: bool = True,
        end_convs: bool = False,
        input_gate: bool = False,
        attend_padding: bool = False,
        noise_dim: int = 256,
        share_noise: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if len(patch) != 2 or min(patch) < 1:
            raise UserError(f"model.patch={list(patch)} must be two positive numbers, [pf, pt]")
        self.patch = (int(patch[0]), int(patch[1]))
        self.fourier = FourierFeatures(noise_dim)
        self.mechanisms = assemble(mechanisms, sizes, width, noise_dim, share_noise)
        built = cast("Mapping[str, Mechanism]", dict(self.mechanisms.items()))

        def norm() -> nn.LayerNorm:
            return nn.LayerNorm(width, norm_eps, elementwise_affine=norm_gain, bias=False)

        def block() -> TransformerBlock:
            attention = SelfAttention(width, heads, kv_heads, qk_norm)
            feedforward = FeedForward(width, expansion, gated)
            return TransformerBlock(attention, feedforward, width, heads, built, norm)

        self.blocks = nn.ModuleList(block() for _ in range(depth))
        self.rotary_dim = _check_rotary(rotary_dim, width // heads)
        asked = {name: mechanism.prefix_for(width) for name, mechanism in built.items()}
        self.prefixes = nn.ModuleDict({n: p for n, p in asked.items() if p is not None})
        wide = channels + sum(mechanism.channels for mechanism in built.values())
        area = self.patch[0] * self.patch[1]
        self.conv_in = zero(nn.Conv2d(wide, wide, 1, bias=False)) if end_convs else None
        self.conv_out = zero(nn.Conv2d(channels, channels, 1, bias=False)) if end_convs else None
        self.project_in = nn.Linear(wide * area, width, bias=False)
        self.project_out = zero(nn.Linear(width, channels * area, bias=False))
        self.gate = zero(nn.Linear(width, channels * area, bias=False)) if input_gate else None
        self.final_norm = (
            ModulatedNorm(norm(), width, built, "final", gated=False) if final_norm else None
        )
        self.attend_padding = attend_padding
        self.checkpointing = checkpointing

    def read(self, noise: Tensor, condition: Condition) -> Signals:
        """What each mechanism makes of the condition and the noise level `noise` (B,)."""
        return read_all(self.mechanisms, condition, self.fourier(noise))

    def forward(
        self, z: Tensor, noise: Tensor, condition: Condition, mask: Tensor | None = None
    ) -> Tensor:
        """The raw network F, (B, C, F, T).

        Args:
            z: latent (B, C, F, T).
            noise: (B,), the parameterization's label of the noise level.
            condition: the entries that `sizes` announced.
            mask: (B, T), True = a real frame. What is in other frames cannot change the output in
                real ones; the output there is zero.
        """
        rows, columns = z.shape[-2:]
        signals = self.read(noise, condition)
        noisy = z
        z = self._widen(z, signals, mask)
        if self.conv_in is not None:
            z = z + self.conv_in(z)
        tokens, grid = self._patchify(z)
        # Under autocast the residual stream keeps z's float32; only the products are in bfloat16.
        x = self.project_in(tokens).to(z.dtype)
        x, prefix, attended = self._prepend(x, signals, self._token_mask(mask, grid))
        positions = self._positions(grid, prefix, x)
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, signals, positions, attended, use_reentrant=False)
            else:
                x = block(x, signals, positions, attended)
        x = x[:, prefix:]
        if self.final_norm is not None:
            x, _ = self.final_norm(x, signals)
        y = self._unpatchify(self.project_out(x), grid)[..., :rows, :columns]
        if self.gate is not None:
            y = y + self._unpatchify(self.gate(x), grid)[..., :rows, :columns] * noisy
        if self.conv_out is not None:
            y = y + self.conv_out(y)
        y = y.to(z.dtype)
        return y if mask is None else torch.where(mask[:, None, None], y, 0)

    def _widen(self, z: Tensor, signals: Signals, mask: Tensor | None) -> Tensor:
        for name, mechanism in self.mechanisms.items():
            z = cast("Mechanism", mechanism).widen(z, signals[name], mask)
        if mask is None or self.attend_padding:
            return z
        # A patch that is partly real must not see what fills the rest of it, be it NaN.
        return torch.where(mask[:, None, None], z, 0)

    def _patchify(self, z: Tensor) -> tuple[Tensor, tuple[int, int]]:
        (pf, pt), (rows, columns) = self.patch, z.shape[-2:]
        z = fn.pad(z, (0, -columns % pt, 0, -rows % pf))
        grid = (z.shape[-2] // pf, z.shape[-1] // pt)
        return rearrange(z, "b c (f pf) (t pt) -> b (f t) (c pf pt)", pf=pf, pt=pt), grid

    def _unpatchify(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        (pf, pt), (f, t) = self.patch, grid
        return rearrange(x, "b (f t) (c pf pt) -> b c (f pf) (t pt)", f=f, t=t, pf=pf, pt=pt)

    def _token_mask(self, mask: Tensor | None, grid: tuple[int, int]) -> Tensor | None:
        """(B, T) -> (B, N): a token is real if any of its frames is."""
        if mask is None or self.attend_padding:
            return None
        padded = fn.pad(mask, (0, -mask.shape[1] % self.patch[1]))
        return padded.unflatten(1, (grid[1], -1)).any(dim=2).repeat(1, grid[0])

    def _prepend(
        self, x: Tensor, signals: Signals, mask: Tensor | None
    ) -> tuple[Tensor, int, Tensor | None]:
        """Tokens with those of all prefixes in front, how many these are, and the key mask."""
        if not self.prefixes:
            return x, 0, mask
        parts = [module(signals[name]) for name, module in self.prefixes.items()]
        everything = join([*parts, Tokens(x, mask)])
        prefix = everything.value.shape[1] - x.shape[1]
        return everything.value.to(x.dtype), prefix, everything.mask

    def _positions(self, grid: tuple[int, int], prefix: int, x: Tensor) -> Rotary | None:
        if self.rotary_dim == 0:
            return None
        return rotary(*grid, prefix, self.rotary_dim, 1e4, x.device)


def _check_rotary(rotary_dim: int | None, head_dim: int) -> int:
    dim = head_dim // 2 * 2 if rotary_dim is None else rotary_dim
    if dim % 2 or not 0 <= dim <= head_dim:
        raise UserError(f"model.rotary_dim={dim} must be even and at most {head_dim} (a head)")
    return dim
