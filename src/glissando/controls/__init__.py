"""Curves that music can be asked to follow, computed from audio: melody, dynamics, rhythm.

After Music ControlNet (Wu et al. 2023, arXiv:2311.07069). A new one is one class with ``curve``.
"""

from glissando.controls.base import Control
from glissando.controls.dynamics import Dynamics
from glissando.controls.melody import Melody
from glissando.controls.rhythm import Rhythm

__all__ = ["Control", "Dynamics", "Melody", "Rhythm"]
