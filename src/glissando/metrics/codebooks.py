"""How much of its codebooks a quantizer uses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def counts(codes: Tensor, sizes: Sequence[int]) -> Tensor:
    """(B, K, ...) indices into K codebooks of ``sizes`` -> how often each occurs, (K, largest)."""
    rows = codes.transpose(0, 1).flatten(1)
    return torch.stack([torch.bincount(row, minlength=max(sizes)) for row in rows])


def perplexity(counts: Tensor) -> Tensor:
    """(K, S) occurrences -> exp of each codebook's entropy (K,): S if all are equally frequent."""
    return torch.distributions.Categorical(counts.double()).entropy().exp()


def kilobits(sizes: Sequence[int], rate: float) -> float:
    """kbit/s of one index into each codebook, ``rate`` times a second."""
    return rate * sum(map(math.log2, sizes)) / 1000
