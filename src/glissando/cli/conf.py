"""Where ``conf/`` and the pretrained weights are, in a clone and in an installed wheel alike."""

from __future__ import annotations

from pathlib import Path

from glissando.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]
_CLONE = _PACKAGE.parents[1]


def config_dir(package: Path = _PACKAGE, clone: Path = _CLONE) -> Path:
    """Folder of the Hydra configs: ``glissando/conf`` (wheel) or ``conf`` at the root (clone)."""
    return _first_folder("conf", package / "conf", clone / "conf")


def pretrained_dir(package: Path = _PACKAGE, clone: Path = _CLONE) -> Path:
    """Folder of the shipped weights: ``glissando/pretrained`` (wheel) or ``data/pretrained``."""
    return _first_folder("pretrained", package / "pretrained", clone / "data" / "pretrained")


def _first_folder(name: str, *places: Path) -> Path:
    for place in places:
        if place.is_dir():
            return place
    tried = " nor ".join(str(place) for place in places)
    raise UserError(f"the {name} folder is neither at {tried}: run from the clone, or reinstall")
