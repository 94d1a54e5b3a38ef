"""The mathematics of diffusion: paths, parameterizations, levels, weightings and the denoiser."""

from glissando.diffusion.denoiser import Denoiser
from glissando.diffusion.estimate import Denoise, Estimate
from glissando.diffusion.levels import Levels
from glissando.diffusion.objective import Objective
from glissando.diffusion.parameterization import Parameterization, Scalings
from glissando.diffusion.path import Coefficients, Path
from glissando.diffusion.weighting import Weighting

__all__ = [
    "Coefficients",
    "Denoise",
    "Denoiser",
    "Estimate",
    "Levels",
    "Objective",
    "Parameterization",
    "Path",
    "Scalings",
    "Weighting",
]
