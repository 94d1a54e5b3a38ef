"""``glissando prepare``: a source becomes a folder of shards."""

from __future__ import annotations

from omegaconf import DictConfig

from glissando.progress import say


def prepare(cfg: DictConfig) -> None:
    """Prepares the dataset that ``cfg`` asks for and says where it is."""
    from glissando.build import prepared

    say(f"prepared: {prepared(cfg, again=True, overwrite=cfg.overwrite, latents=True)}")
