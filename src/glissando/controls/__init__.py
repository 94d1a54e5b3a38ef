"""Curves that music can be asked to follow, computed from audio: melody, dynamics, rhythm.

After Music ControlNet (Wu et al. 2023, arXiv:2311.07069), whose controls are a one-hot chroma, a
smoothed energy in dB, and probabilities of beats and downbeats; no code was published, and cut-offs
and windows here are as we know them, not checked against the paper. A new one is one class with
``curve``.
"""

from glissando.controls.base import Control
from glissando.controls.dynamics import Dynamics
from glissando.controls.melody import Melody
from glissando.controls.rhythm import Rhythm

__all__ = ["Control", "Dynamics", "Melody", "Rhythm"]
