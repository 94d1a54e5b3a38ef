"""Data with known denoisers, and the paths to try them on."""

import torch

from glissando.diffusion.oracle import GaussianMixture
from glissando.diffusion.path_beta import LinearBeta
from glissando.diffusion.path_cosine import Cosine
from glissando.diffusion.path_exploding import VarianceExploding
from glissando.diffusion.path_rectified import Rectified

SHAPE = (2, 1, 3)
PATHS = {
    "cosine": Cosine(),
    "linear_beta": LinearBeta(),
    "exploding": VarianceExploding(),
    "rectified": Rectified(),
}


def gaussian(path, components=1):
    """Data of 6 numbers a clip with different means and widths."""
    generator = torch.Generator().manual_seed(7)
    shape = (components, *SHAPE)
    return GaussianMixture(
        path,
        torch.arange(1, components + 1, dtype=torch.float64) / sum(range(components + 1)),
        torch.randn(shape, generator=generator, dtype=torch.float64),
        0.3 + torch.rand(shape, generator=generator, dtype=torch.float64),
    )
