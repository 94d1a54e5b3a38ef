"""The transformer block that DiT and U-Net stack.  Shapes: B batch, N tokens, D features."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from glissando.conditioning.base import Mechanism, Signals, Tokens
from glissando.networks.attention import Rotary, SelfAttention
from glissando.networks.branch import Branch, ModulatedNorm
from glissando.networks.layers import FeedForward


class TransformerBlock(nn.Module):
    """Self-attention, whatever sublayers mechanisms add, feed-forward; all residual branches.

    Args:
        attention: of tokens of `width` features. feedforward: None leaves it out.
        heads: of the sublayers' attention.
        norm: makes a norm over `width` features, one for each branch.
    """

    def __init__(
        self,
        attention: SelfAttention,
        feedforward: FeedForward | None,
        width: int,
        heads: int,
        mechanisms: Mapping[str, Mechanism],
        norm: Callable[[], nn.Module],
    ) -> None:
        super().__init__()

        def branch(role: str, inner: nn.Module) -> Branch:
            return Branch(inner, ModulatedNorm(norm(), width, mechanisms, role))

        self.attention = branch("attention", attention)
        self.sublayers = nn.ModuleDict()
        for name, mechanism in mechanisms.items():
            sublayer = mechanism.sublayer_for(width, heads)
            if sublayer is not None:
                plain = ModulatedNorm(norm(), width, {}, "sublayer")
                self.sublayers[name] = Branch(sublayer, plain)
        self.feedforward = None if feedforward is None else branch("feedforward", feedforward)

    def forward(
        self,
        x: Tensor,
        signals: Signals,
        positions: Rotary | None,
        mask: Tensor | None,
        prefix: Tokens | None = None,
    ) -> Tensor:
        """x (B, N, D); `mask` (B, N) True = may be attended to; `prefix`: more keys and values."""
        x = self.attention(x, signals, positions, mask, prefix)
        for name, sublayer in self.sublayers.items():
            x = sublayer(x, signals, signals[name])
        return x if self.feedforward is None else self.feedforward(x, signals)
