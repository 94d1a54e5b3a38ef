"""Captions -> tokens, mask and pooled: frozen text encoders and the cache that runs them once.

A new encoder is one class with ``encode`` (see ``base.TextEncoder``) and one yaml in
``conf/text_encoder/``.
"""

from glissando.text_encoders.base import Text, TextEncoder, check_caption
from glissando.text_encoders.cache import TextCache
from glissando.text_encoders.contrastive import CLAP, CLIP
from glissando.text_encoders.hash import Hash
from glissando.text_encoders.minilm import MiniLM
from glissando.text_encoders.t5 import T5

__all__ = [
    "CLAP",
    "CLIP",
    "T5",
    "Hash",
    "MiniLM",
    "Text",
    "TextCache",
    "TextEncoder",
    "check_caption",
]
