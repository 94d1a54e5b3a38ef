"""Linear codecs of frames: one for all of them, or one for each kind.

Principal components are the best of all linear codecs (Karhunen-Loeve transform), but they keep the
same directions whatever is played, and of these data that is what lies below 1.5 kHz. Music of one
kind fills far fewer directions than all music together, so one codec for each kind keeps more at
the same rate (local principal components: Kambhatla & Leen 1997).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROUNDS = 6  # of assigning frames to codecs and fitting these: the energy kept is then within 1%


class Transform(nn.Module, ABC):
    """Frames (B, T, D) <-> (B, T, C); both halves are linear for a given choice of codec."""

    frames_wanted: int
    """From how many frames ``fit`` estimates well."""

    @abstractmethod
    def analyse(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, C)."""

    @abstractmethod
    def synthesise(self, z: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, D)."""

    @abstractmethod
    def fit(self, frames: Tensor, scale: Tensor) -> None:
        """Sets both halves in closed form from clips (N, T, D) given in units of ``scale`` (D,)."""


class Components(Transform):
    """The whitened principal components of all frames.

    Args:
        bands: D. channels: C, at most D.
    """

    frames_wanted = 10_000

    def __init__(self, bands: int, channels: int) -> None:
        super().__init__()
        self.analysis = nn.Linear(bands, channels, bias=False)
        self.synthesis = nn.Linear(channels, bands, bias=False)
        nn.init.orthogonal_(self.analysis.weight)
        self.synthesis.weight.data.copy_(self.analysis.weight.data.mT)

    def analyse(self, x: Tensor) -> Tensor:
        return self.analysis(x)

    def synthesise(self, z: Tensor) -> Tensor:
        return self.synthesis(z)

    @torch.no_grad()
    def fit(self, frames: Tensor, scale: Tensor) -> None:
        directions, std = _leading(frames * scale, self.analysis.out_features)
        # Both in units of the bands' deviations: an optimizer's step of one size for all weights
        # (Adam's) would otherwise be a large part of what the weak, high bands have.
        self.analysis.weight.copy_((directions / std).mT * scale)
        self.synthesis.weight.copy_(directions * std / scale[:, None])


class LocalComponents(Transform):
    """One of ``2^bits`` linear codecs for each frame: the one that keeps most of what is around it.

    All of them work in one subspace of ``rank`` principal components. Which one it is stands in the
    last ``bits`` channels as the corner of a cube, +1 or -1 each, so that it travels with the
    latent; between corners ``synthesise`` mixes. The channels of all codecs are turned so that they
    mean nearly the same (orthogonal Procrustes): a diffusion model sees one space and not many.
    Nothing of it is trained after ``fit``.

    Args:
        bands: D. channels: C, ``bits`` among them. rank: from C - bits to D.
        bits: log2 of the number of codecs, from 1.
        window: frames on either side by whose energy the codec of a frame is chosen.
    """

    frames_wanted = 60_000
    sharpness = 5.0  # a corner is taken for its neighbour to a share of e^-10
    codes: Tensor
    energy: Tensor

    def __init__(self, bands: int, channels: int, bits: int, rank: int, window: int = 8) -> None:
        super().__init__()
        kept, count = channels - bits, 2**bits
        self.bits, self.window = bits, window
        self.analysis = nn.Linear(bands, rank, bias=False)
        self.synthesis = nn.Linear(rank, bands, bias=False)
        nn.init.orthogonal_(self.analysis.weight)
        self.synthesis.weight.data.copy_(self.analysis.weight.data.mT)
        self.encode = nn.Parameter(torch.eye(rank)[:, :kept].repeat(count, 1, 1))  # (K, R, c)
        self.decode = nn.Parameter(self.encode.detach().mT.clone())  # (K, c, R)
        # The energy in the waveform of a unit of each channel: what the choice goes by.
        self.register_buffer("energy", torch.ones(count, kept))
        digits = (torch.arange(count)[:, None] >> torch.arange(bits)) & 1
        self.register_buffer("codes", 2.0 * digits - 1, persistent=False)
        # Optimal as they are: steps of one size, in codecs that few frames use, would be noise.
        self.requires_grad_(False)

    def analyse(self, x: Tensor) -> Tensor:
        every = torch.einsum("btr,krc->btkc", self.analysis(x), self.encode)
        kept = _around((every.detach().square() * self.energy).sum(3), self.window)
        best, choice = kept.max(2)
        index = choice[..., None, None].expand(*choice.shape, 1, every.shape[3])
        z = torch.cat([every.gather(2, index).squeeze(2), self.codes[choice]], 2)
        # Nothing, but not a number where the choice saw none: how far a codec sees is found so.
        return z + 0 * best[..., None]

    def synthesise(self, z: Tensor) -> Tensor:
        values, code = z.split([z.shape[2] - self.bits, self.bits], 2)
        share = (self.sharpness * code @ self.codes.mT).softmax(2)  # (B, T, K)
        mixed = (share[..., None] * values[:, :, None]).flatten(2)  # one product for all codecs
        return self.synthesis(mixed @ self.decode.flatten(0, 1))

    @torch.no_grad()
    def fit(self, frames: Tensor, scale: Tensor) -> None:
        rank, kept = self.encode.shape[1:]
        whole, std = _leading(frames * scale, rank)
        self.analysis.weight.copy_((whole / std).mT * scale)
        self.synthesis.weight.copy_(whole * std / scale[:, None])
        inside = self.analysis(frames) * std  # an orthonormal image of the waveform
        # Loud clips would otherwise choose for all.
        level = inside.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-6)
        bases, choice = self._specialize(inside / level, kept)
        whole_std = std[:kept]
        for number, basis in enumerate(bases):
            left, _, right = torch.linalg.svd(basis[:kept], full_matrices=False)
            turned = basis @ (left @ right).mT  # nearest to the leading components of all
            mine = inside[choice == number] @ turned
            own = mine.square().mean(0).clamp_min(1e-10).sqrt() if len(mine) else whole_std
            self.encode[number].copy_(std[:, None] * turned / own)
            self.decode[number].copy_((turned * own).mT / std)
            self.energy[number].copy_(own.square())

    def _specialize(self, x: Tensor, kept: int) -> tuple[Tensor, Tensor]:
        """Clips (N, T, R) -> bases (K, R, kept) and each frame's choice among them (N, T)."""
        choice = _halved((_around(x.square(), self.window) + 1e-3).log(), self.bits)
        bases = torch.eye(x.shape[2])[:, :kept].to(x).repeat(2**self.bits, 1, 1)
        for _ in range(ROUNDS):
            for number in range(len(bases)):
                mine = x[choice == number]
                if len(mine) > kept:  # fewer say nothing of so many directions
                    bases[number] = _leading(mine, kept)[0]
            energy = torch.stack([(x @ basis).square().sum(2) for basis in bases], 2)
            choice = _around(energy, self.window).argmax(2)
        return bases, choice


def _leading(frames: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Directions (D, count) and deviations (count,) of frames (..., D) about 0, largest first."""
    flat = frames.flatten(0, -2)
    total = torch.zeros(flat.shape[1], flat.shape[1], dtype=torch.float64, device=flat.device)
    for part in flat.split(8192):
        total += part.double().mT @ part.double()
    variances, directions = torch.linalg.eigh(total / len(flat))
    std = variances.flip(0)[:count].clamp_min(1e-10).sqrt()
    return directions.flip(1)[:, :count].to(frames), std.to(frames)


def _halved(features: Tensor, bits: int) -> Tensor:
    """Groups of equal size (N, T): halved ``bits`` times across their leading direction."""
    shape, flat = features.shape[:-1], features.flatten(0, -2)
    group = torch.zeros(len(flat), dtype=torch.long, device=flat.device)
    for bit in reversed(range(bits)):  # so neighbours in the last bit are most alike
        half = torch.zeros_like(group)
        for number in group.unique():
            mine = group == number
            centred = flat[mine] - flat[mine].mean(0)
            along = (centred @ _leading(centred, 1)[0]).squeeze(1)
            half[mine] = (along > along.median()).long() << bit
        group = group + half
    return group.view(shape)


def _around(values: Tensor, window: int) -> Tensor:
    """Means of (B, T, K) over ``window`` frames on either side, fewer at the ends."""
    return F.avg_pool1d(
        values.mT, 2 * window + 1, stride=1, padding=window, count_include_pad=False
    ).mT
