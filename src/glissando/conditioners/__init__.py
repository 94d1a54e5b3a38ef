"""A batch's attributes (caption, seconds, instrument, melody) -> named entries of a Condition.

A new conditioner is one class with ``parse``, ``embed`` and ``absent`` (see ``base.Conditioner``).
"""

from glissando.conditioners.base import Attributes, Conditioner
from glissando.conditioners.category import CategoryConditioner
from glissando.conditioners.compose import Conditioners
from glissando.conditioners.control import ControlConditioner
from glissando.conditioners.local import LocalConditioner
from glissando.conditioners.number import NumberConditioner
from glissando.conditioners.text import TextConditioner

__all__ = [
    "Attributes",
    "CategoryConditioner",
    "Conditioner",
    "Conditioners",
    "ControlConditioner",
    "LocalConditioner",
    "NumberConditioner",
    "TextConditioner",
]
