"""FiLM: shift and scale, ungated."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from glissando.conditioning.adaln import AdaLN, Regress


class FiLM(AdaLN):
    """Feature-wise linear modulation (Perez et al. 2018) of every branch's norm, as in MusicLDM.

    AdaLN without the gate: a branch is x + f(norm(x)(1 + scale) + shift). Ordinary init.
    """

    noise_rank: ClassVar = 1

    def modulation_for(self, width: int, role: str, gated: bool = True) -> nn.Module:
        return Regress(self.width, width, gated=False)
