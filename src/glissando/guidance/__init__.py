"""One denoiser made into another: guidance at sampling time."""

from glissando.guidance.base import Companion, Guidance, Unguided
from glissando.guidance.classifier_free import ClassifierFree

__all__ = ["ClassifierFree", "Companion", "Guidance", "Unguided"]
