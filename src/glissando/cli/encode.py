"""``glissando encode``: a prepared dataset becomes cached latents."""

from __future__ import annotations

from omegaconf import DictConfig

from glissando.progress import say


def encode(cfg: DictConfig) -> None:
    """Encodes the dataset that ``cfg`` asks for and says where the latents are."""
    from glissando.build import encoded, prepared, representation
    from glissando.checkpoints.instantiate import instantiate

    made, controls = representation(cfg), instantiate(cfg.conditioner).controls
    root = prepared(cfg, overwrite=cfg.overwrite, latents=True)
    say(f"encoded: {encoded(root, made, controls)}")
