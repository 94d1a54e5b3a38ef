"""Residual vector quantization as in DAC (Kumar et al. 2023, arXiv 2306.06546)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glissando.errors import UserError
from glissando.networks.bottlenecks.base import Bottleneck
from glissando.networks.bottlenecks.quantized import Quantized, straight_through
from glissando.networks.precision import full_precision


class Book(nn.Module):
    """One codebook: (N, C) -> ``width`` dimensions -> the entry of least angle -> (N, C).

    Few dimensions and directions alone keep all entries in use (Yu et al. 2022).
    """

    def __init__(self, channels: int, size: int, width: int) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(channels, width), nn.Linear(width, channels)
        self.entries = nn.Embedding(size, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, C) -> the latent (N, C) with x's gradient, codes (N,), distances (N, 2).

        The mean squared distance between projection and entry twice: the first pulls the
        projection (commitment), the second the entry (codebook).
        """
        inside = self.inward(x)
        codes = (F.normalize(inside) @ F.normalize(self.entries.weight).mT).argmax(1)
        entry = self.entries(codes)
        commitment = (inside - entry.detach()).square().mean(1)
        codebook = (entry - inside.detach()).square().mean(1)
        latent = self.outward(straight_through(inside, entry))
        return latent, codes, torch.stack([commitment, codebook], 1)


class RVQ(Bottleneck):
    """Codebooks one after the other, each for what the ones before have left.

    In training, a ``dropout`` part of the clips keeps a random number of codebooks only, so that
    fewer give a coarser sound (Zeghidour et al. 2021; DAC: 0.5).

    Args:
        channels: C.
        count: how many codebooks K. size: entries of each. width: dimensions of an entry.
        dropout: part of the clips, from 0 to 1.

    Raises UserError for values outside these ranges.
    """

    def __init__(
        self, channels: int, count: int = 9, size: int = 1024, width: int = 8, dropout: float = 0.5
    ) -> None:
        super().__init__()
        for name, value, least in (("count", count, 1), ("size", size, 2), ("width", width, 1)):
            if value < least:
                raise UserError(f"bottleneck.{name} must be {least} or more, not {value}")
        if not 0 <= dropout <= 1:
            raise UserError(f"bottleneck.dropout must be between 0 and 1, not {dropout}")
        self.channels = self.inputs = channels
        self.books, self.dropout = (size,) * count, dropout
        self.parts = nn.ModuleList(Book(channels, size, width) for _ in range(count))

    def forward(self, raw: Tensor) -> Quantized:
        return self._quantized(raw, self._kept(raw))

    def settle(self, z: Tensor) -> Tensor:
        return self._quantized(z, self._every(z)).trained

    def _quantized(self, raw: Tensor, kept: Tensor) -> Quantized:
        rows = raw.float().movedim(1, -1)  # (B, ..., C)
        with full_precision(raw):
            residual = rows.flatten(0, -2)
            trained = torch.zeros_like(residual)
            codes, losses = [], residual.new_zeros(2)
            for number, book in enumerate(self.parts):
                latent, code, distances = book(residual)
                heard = (number < kept).repeat_interleave(len(residual) // len(kept))
                trained = trained + latent * heard[:, None]
                losses = losses + (distances * heard[:, None]).mean(0)
                residual = residual - latent
                codes.append(code.unflatten(0, rows.shape[:-1]))

        trained = trained.unflatten(0, rows.shape[:-1]).movedim(-1, 1)
        named = {"commitment": losses[0], "codebook": losses[1]}
        return Quantized(rows.movedim(-1, 1), trained, torch.stack(codes, 1), named)

    def _kept(self, raw: Tensor) -> Tensor:
        """How many codebooks each clip of (B, C, ...) keeps: (B,)."""
        every = self._every(raw)
        if not self.training or not self.dropout:
            return every
        few = torch.randint_like(every, 1, len(self.parts) + 1)
        return torch.where(torch.rand(every.shape, device=raw.device) < self.dropout, few, every)

    def _every(self, raw: Tensor) -> Tensor:
        return torch.full((len(raw),), len(self.parts), device=raw.device)

    def values(self, codes: Tensor) -> Tensor:
        """(B, K', ...) of the first K' codebooks -> the latent (B, C, ...) they stand for."""
        latents = [
            book.outward(book.entries(code))  # type: ignore[operator]
            for book, code in zip(self.parts, codes.unbind(1), strict=False)
        ]
        return torch.stack(latents).sum(0).movedim(-1, 1)
