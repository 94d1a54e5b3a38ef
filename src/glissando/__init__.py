"""glissando: a PyTorch Lightning + Hydra laboratory for text-to-music diffusion."""

from __future__ import annotations

__version__ = "0.1.0"
