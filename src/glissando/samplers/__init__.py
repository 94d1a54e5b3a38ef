"""From noise to data, given only ``denoise`` and the path."""

from glissando.samplers.base import Sampler
from glissando.samplers.noise import ClipNoise
from glissando.samplers.spacing import Spacing

__all__ = ["ClipNoise", "Sampler", "Spacing"]
