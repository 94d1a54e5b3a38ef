"""Inpainting keeps what is known to the last digit and fills the rest as the data would have it."""

import math

import pytest
import torch
from gaussians import PATHS

from glissando.diffusion.estimate import Estimate
from glissando.diffusion.path import spread
from glissando.diffusion.path_cosine import Cosine
from glissando.errors import UserError
from glissando.samplers.ddim import DDIM
from glissando.samplers.dpmpp_2m import DPMpp2M, DPMpp2MSDE
from glissando.samplers.editing import inpaint
from glissando.samplers.euler import Euler
from glissando.samplers.heun import Heun
from glissando.samplers.heun_churn import HeunChurn
from glissando.samplers.noise import ClipNoise
from glissando.samplers.spacing import LogSnrLinear
from glissando.samplers.unipc import UniPC

SPACING = LogSnrLinear()
SHAPE = (1, 1, 2)
RHO = 0.9


def pair(path):
    """Two frames of unit variance with correlation 0.9: what one is says what the other is."""
    covariance = torch.tensor([[1, RHO], [RHO, 1]], dtype=torch.float64)

    def denoise(z, t):
        c = path(t)
        alpha, sigma = (v.view(-1, 1, 1) for v in (c.alpha, c.sigma))
        total = alpha**2 * covariance + sigma**2 * torch.eye(2, dtype=torch.float64)
        inverse = torch.linalg.inv(total)[:, None]  # (B, 1, 2, 2)
        x_0 = alpha[..., None] * torch.einsum("ij,bcjk,bcfk->bcfi", covariance, inverse, z)
        eps = sigma[..., None] * torch.einsum("bcjk,bcfk->bcfj", inverse, z)
        return Estimate(x_0, eps)

    return denoise


@pytest.mark.parametrize(
    "sampler", [Euler(12), Heun(12), DPMpp2M(12, SPACING), UniPC(12, SPACING), DDIM(12, SPACING, 1)]
)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_the_known_part_comes_back_exactly(path, sampler):
    fresh = ClipNoise(range(3), SHAPE, dtype=torch.float64)
    known = torch.tensor([1.5, -7.0], dtype=torch.float64).expand(3, *SHAPE)
    make = torch.tensor([False, True])
    x_0 = sampler(inpaint(pair(path), path, known, make), path, fresh(), fresh)
    assert torch.equal(x_0[..., 0], known[..., 0])
    assert (x_0[..., 1] != -7).all()
    whole = inpaint(pair(path), path, known, torch.tensor([False, False]))
    assert torch.equal(sampler(whole, path, fresh(), fresh), known)


def test_the_known_part_runs_along_the_path():
    """Seen from inside: z is alpha known + sigma (its first noise), as if noised for training."""
    path, known = Cosine(), torch.full((2, *SHAPE), 2.0, dtype=torch.float64)
    seen = []

    def watch(z, t):
        seen.append((z[..., 0], path(t)))
        return pair(path)(z, t)

    noise = ClipNoise([1, 2], SHAPE, dtype=torch.float64)()
    Heun(9)(inpaint(watch, path, known, torch.tensor([False, True])), path, noise)
    for z, c in seen:
        expected = spread(c.alpha, noise) * 2 + spread(c.sigma, noise) * noise
        torch.testing.assert_close(z, expected[..., 0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sampler", [DPMpp2MSDE(30, SPACING), HeunChurn(30, SPACING)])
def test_the_new_part_follows_the_known(sampler):
    """It cannot be the exact conditional, as no replacement method is, but leans the right way."""
    path, clips = Cosine(), 100
    fresh = ClipNoise(range(clips), SHAPE, dtype=torch.float64)
    known = torch.tensor([2.0, 0.0], dtype=torch.float64).expand(clips, *SHAPE)
    x_0 = sampler(
        inpaint(pair(path), path, known, torch.tensor([False, True])), path, fresh(), fresh
    )
    mean = x_0[..., 1].mean().item()
    true = RHO * 2
    assert 0.5 * true < mean < true + 4.5 * math.sqrt((1 - RHO**2) / clips)


def test_masks_per_clip_and_wrong_lengths():
    path = Cosine()
    known = torch.full((2, *SHAPE), 3.0, dtype=torch.float64)
    noise = ClipNoise([1, 2], SHAPE, dtype=torch.float64)()
    make = torch.tensor([[False, True], [True, False]])
    x_0 = Euler(5)(inpaint(pair(path), path, known, make), path, noise)
    assert (x_0[..., 0, :] == 3).squeeze().tolist() == [[True, False], [False, True]]
    with pytest.raises(UserError, match=r"inpaint="):
        inpaint(pair(path), path, known, torch.tensor([True, False, True]))
