"""glissando: a PyTorch Lightning + Hydra laboratory for text-to-music diffusion."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glissando.generation import Generator

__version__ = "0.1.0"


def load(name: str = "demo", device: str = "auto") -> Generator:
    """A trained model: ``glissando.load("demo").generate(["a slow Irish air on flute"])``.

    ``name`` is a shipped model, ``last`` (the newest run), a run folder or a file; ``device``
    "auto" is the GPU where there is one. See ``glissando.generation``.
    """
    from glissando.generation import load as load_generator

    return load_generator(name, device)
