"""``glissando encode``: a prepared dataset becomes cached latents."""

from __future__ import annotations

from omegaconf import DictConfig

from glissando.cli.progress import say


def encode(cfg: DictConfig) -> None:
    """Encodes the dataset that ``cfg`` asks for and says where the latents are."""
    from glissando.build import encoded, prepared
    from glissando.checkpoints.instantiate import instantiate

    root = prepared(cfg, overwrite=cfg.overwrite)
    say(f"encoded: {encoded(root, instantiate(cfg.representation))}")
