"""Editing with any sampler: a denoiser that knows part of the answer."""

from __future__ import annotations

import torch
from torch import Tensor

from glissando.diffusion.estimate import Denoise, Estimate
from glissando.diffusion.path import Path, spread
from glissando.errors import UserError


def inpaint(denoise: Denoise, path: Path, known: Tensor, make: Tensor) -> Denoise:
    """``denoise`` with x_0 = ``known`` (B, C, F, T) wherever ``make`` is False.

    ``make`` is (B, T) or (T,), True where new latents are wanted. There the network answers; it
    sees the rest as ``known`` noised to the level of the moment, because with x_0 and the eps
    that fits it any sampler carries z along the path to ``known``, and ends on it exactly.
    Extending a clip is ``known`` padded to the new length, with ``make`` True in the padding.

    Raises UserError for a mask of another length than the latent.
    """
    if make.shape[-1] != known.shape[-1]:
        raise UserError(
            f"inpaint= covers {make.shape[-1]} latent frames, but the audio has "
            f"{known.shape[-1]}; give times inside the clip"
        )
    new = make.to(known.device).reshape(-1, 1, 1, known.shape[-1])

    def denoise_new(z: Tensor, t: Tensor) -> Estimate:
        estimate = denoise(z, t)
        c = path(t)
        sigma = spread(c.sigma, z)
        kept = known.to(z)
        noise = torch.where(sigma > 0, (z - spread(c.alpha, z) * kept) / sigma, 0)
        return Estimate(torch.where(new, estimate.x_0, kept), torch.where(new, estimate.eps, noise))

    return denoise_new
