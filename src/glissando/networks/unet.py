"""The convolutional U-Net for 1-D and 2-D latents, with attention where one asks for it.

Ho et al. 2020 (DDPM), Rombach et al. 2022 (latent diffusion), and their families in audio: AudioLDM
and MusicLDM, Riffusion (2-D), Moûsai and Stable Audio 1 (1-D).

Norms are over the features of each point, not over groups of channels and all of time as in those
models: statistics over time would let padding and the length of the clip into every frame, and
Karras et al. 2024 (EDM2, sec. 2.3) found that a U-Net does not need them. Convolutions see zeros in
padded frames and attention does not see them, so that nothing there reaches a real frame.

Shapes: B batch, C channels, F frequency, T time, D features, P prefix tokens. Inside, maps are
(B, F, T, D).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as fn
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from glissando.condition import Condition, Sizes
from glissando.conditioning.base import Mechanism, Signals, read_all, zero
from glissando.conditioning.routing import Specs, assemble
from glissando.networks.attention import SelfAttention
from glissando.networks.branch import Branch, ModulatedNorm
from glissando.networks.layers import FeedForward, FourierFeatures
from glissando.networks.transformer import TransformerBlock
from glissando.networks.unet_blocks import (
    Conv,
    Convolutions,
    Level,
    Scene,
    UNetBlock,
    Up,
    coarser,
    unit_variance,
)
from glissando.networks.unet_sizes import attending, level_widths, odd, pairs, per_level


class UNet(nn.Module):
    """Down through coarser levels and up again, conditioned as one likes.

    Every residual branch is `Branch`, so every mechanism enters as in a DiT, but for prefix tokens:
    they are keys and values of each self-attention and not part of the sequence.

    Args:
        channels: C of the latent, in and out.
        sizes: the entries of the condition, without the noise level, which the network adds.
        mechanisms: how entries enter: partial mechanisms by name (or a list of them).
        width: D of a level of multiple 1. multiples: D of each level over `width`. The first level
            should be some times wider than the latent, all noise of which has to pass there.
        factor: (ff, ft) for each level: how much coarser it is than the one before, the first one
            than the latent. One pair is for all levels but the first, which is the latent's own
            grid. Where a factor does not divide a level, zeros are appended, and cropped again.
        depth: blocks on the way down, one number or one per level; one more on the way up.
        attention: levels whose blocks attend, counted from 0. The middle always does.
        heads: attention heads, one number or one per level.
        kernel: (kf, kt), odd; (1, k) for latents of one row, where more would be wasted.
        embedding: width in which mechanisms work; None is 4 `width`, as in DDPM.
        expansion: hidden width over D of the feed-forward after attention; None leaves it out.
        gated: whether that is SwiGLU (else GELU).
        qk_norm: normalize queries and keys.
        positions: rotary positions in self-attention.
        norm_gain, norm_eps: see `DiT`.
        skip_scale: factor of what skips a level; 2**-0.5 in Moûsai and Stable Audio 1.
        noise_dim, share_noise: see `DiT`.
        checkpointing: recompute each block in the backward pass to save memory.

    Raises UserError for sizes that do not fit together.
    """

    def __init__(
        self,
        channels: int,
        sizes: Sizes,
        mechanisms: Specs,
        width: int = 256,
        multiples: Sequence[int] = (1, 1),
        factor: Sequence[Any] = (1, 4),
        depth: int | Sequence[int] = 1,
        attention: Sequence[int] = (1,),
        heads: int | Sequence[int] = 4,
        kernel: Sequence[int] = (1, 3),
        embedding: int | None = None,
        expansion: float | None = None,
        gated: bool = True,
        qk_norm: bool = False,
        positions: bool = True,
        norm_gain: bool = False,
        norm_eps: float = 1e-5,
        skip_scale: float = 1.0,
        noise_dim: int = 256,
        share_noise: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        widths = level_widths(width, multiples)
        count = len(widths)
        depths = per_level("depth", depth, count)
        every = attending(attention, widths, per_level("heads", heads, count))
        self.factors = pairs(factor, count)
        size = odd(kernel)
        self.fourier = FourierFeatures(noise_dim)
        embedding = 4 * width if embedding is None else embedding
        self.mechanisms = assemble(mechanisms, sizes, embedding, noise_dim, share_noise)
        built = cast("Mapping[str, Mechanism]", dict(self.mechanisms.items()))

        def norm(width: int) -> nn.LayerNorm:
            return nn.LayerNorm(width, norm_eps, elementwise_affine=norm_gain, bias=False)

        def block(number: int, attends: bool) -> UNetBlock:
            width, heads = widths[number], every[number]
            convolutions = Convolutions(width, size, norm(width))
            modulated = ModulatedNorm(norm(width), width, built, "convolutions")
            transformer = None
            if attends:
                feedforward = None if expansion is None else FeedForward(width, expansion, gated)
                transformer = TransformerBlock(
                    SelfAttention(width, heads, qk_norm=qk_norm), feedforward,
                    width, heads, built, partial(norm, width),
                )  # fmt: skip
            return UNetBlock(Branch(convolutions, modulated), transformer)

        def level(number: int) -> Level:
            blocks, width = partial(block, number, number in attention), widths[number]
            asked = {n: m.prefix_for(width) for n, m in built.items() if every[number]}
            prefixes = nn.ModuleDict({n: p for n, p in asked.items() if p is not None})
            return Level(width, depths[number], every[number], blocks, prefixes)

        self.levels = nn.ModuleList(map(level, range(count)))
        self.middle = nn.ModuleList([block(count - 1, True), block(count - 1, False)])
        wide = channels + sum(mechanism.channels for mechanism in built.values())
        first, *rest = self.factors
        steps = list(zip(widths, widths[1:], rest, strict=False))
        self.project_in = Conv(wide, widths[0], size, first)
        downs = [Conv(fine, coarse, size, each) for fine, coarse, each in steps]
        ups = [Up(coarse, fine, size, each) for fine, coarse, each in steps]
        for trunk in (self.project_in, *downs, *ups):
            unit_variance(trunk.conv)
        self.downs, self.ups = nn.ModuleList(downs), nn.ModuleList(ups)
        self.final_norm = ModulatedNorm(norm(widths[0]), widths[0], built, "final", gated=False)
        self.project_out = Up(widths[0], channels, size, first)
        zero(self.project_out.conv)
        self.positions, self.skip_scale = positions, skip_scale
        self.checkpointing = checkpointing

    @property
    def blocks(self) -> list[UNetBlock]:
        """All of the residual blocks, as a DiT lists its own."""
        return [module for module in self.modules() if isinstance(module, UNetBlock)]

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
        wide = z
        for name, mechanism in self.mechanisms.items():
            wide = cast("Mechanism", mechanism).widen(wide, signals[name], mask)
        # Under autocast the residual stream keeps z's float32; only the products are in bfloat16.
        x = self.project_in(wide.movedim(1, -1), mask).to(z.dtype)
        below = coarser(mask, self.factors[0][1])
        x, _ = self.final_norm(self._level(0, x, below, signals), signals)
        y = self.project_out(fn.silu(x), below, rows, columns).movedim(-1, 1).to(z.dtype)
        return y if mask is None else torch.where(mask[:, None, None], y, 0)

    def _level(self, number: int, x: Tensor, mask: Tensor | None, signals: Signals) -> Tensor:
        """What level `number`, with all below it, makes of x (B, F, T, D)."""
        level = cast("Level", self.levels[number])
        scene = level.scene(x, mask, signals, self.positions)
        skips = [x]
        for block in level.encoder:
            x = self._run(block, x, signals, scene)
            skips.append(x)
        if number + 1 == len(self.levels):
            for block in self.middle:
                x = self._run(block, x, signals, scene)
        else:
            y = self.downs[number](x, mask).to(x.dtype)
            below = coarser(mask, self.factors[number + 1][1])
            y = self._level(number + 1, y, below, signals)
            x = self.ups[number](y, below, *x.shape[1:3]).to(x.dtype)
        for fusion, block in zip(level.fusions, level.decoder, strict=True):
            both = torch.cat([x, self.skip_scale * skips.pop()], dim=-1)
            x = self._run(block, fusion(both).to(x.dtype), signals, scene)
        return x

    def _run(self, block: nn.Module, x: Tensor, signals: Signals, scene: Scene) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return cast("Tensor", checkpoint(block, x, signals, scene, use_reentrant=False))
        return block(x, signals, scene)
