"""What every builder asks of a config."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from glissando.errors import UserError


def plain(cfg: Any) -> Any:
    """A config as resolved plain containers, as checkpoints store it."""
    return OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else cfg


def whole_number(cfg: DictConfig, key: str, least: int) -> None:
    """Raises UserError, naming ``key``, if its value is no whole number from ``least`` on."""
    value = OmegaConf.select(cfg, key)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{key} must be a whole number from {least} on, not {value}")
