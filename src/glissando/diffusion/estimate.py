"""What a denoiser promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Estimate(NamedTuple):
    """The denoiser's guess of the data and of the noise in z, each (B, C, F, T).

    z = alpha x_0 + sigma eps holds unless a guidance says otherwise (CFG++ re-noises with the
    eps of its unguided half).
    """

    x_0: Tensor
    eps: Tensor


Denoise = Callable[[Tensor, Tensor], Estimate]
"""(z (B, C, F, T), t (B,)) -> Estimate, with the condition already inside.

Samplers pass t as a float64 tensor on the host: a guidance may then branch on it without waiting
for the device, and coefficients lose no digits.
"""
