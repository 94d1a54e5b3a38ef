"""Anti-aliased activations (BigVGAN, Lee et al. 2022, arXiv:2206.04658, section 3.2)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from glissando.networks.resample import low_pass

TAPS, BETA = 12, 4.66  # as published: Kaiser's formula for 51 dB in 12 taps


class AntiAliased(nn.Module):
    """``activation`` at twice the rate, between two low-pass filters: (B, C, T) -> (B, C, T).

    What a nonlinearity makes above the Nyquist frequency would fold back into what is heard. At
    twice the rate it has room, and the second filter removes it. The ends are continued by their
    own values, as published.
    """

    taps: Tensor

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation
        self.register_buffer("taps", low_pass(TAPS, 0.5, BETA)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        side, channels = TAPS // 2, x.shape[1]
        taps = self.taps.expand(channels, -1, -1)
        ends = F.pad(x, (side - 1, side - 1), mode="replicate")
        double = F.conv_transpose1d(
            ends, 2 * taps, stride=2, padding=3 * (side - 1), groups=channels
        )
        y = F.pad(self.activation(double), (side - 1, side), mode="replicate")
        return F.conv1d(y, taps, stride=2, groups=channels)
