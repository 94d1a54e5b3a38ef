"""What a checkpoint says of itself, as plain containers beside the weights."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FORMAT = 1
_PACKAGES = ("torch", "lightning", "transformers", "hydra-core", "numpy")


def facts(kind: str, config: dict[str, Any], representation: dict[str, Any]) -> dict[str, Any]:
    """The dictionary stored under ``glissando`` in every checkpoint.

    ``kind`` is "autoencoder" or "diffusion"; ``config`` the resolved training config;
    ``representation`` the config that rebuilds the representation without its weights.
    """
    from glissando import __version__

    return {
        "format": FORMAT,
        "kind": kind,
        "config": config,
        "representation": representation,
        "glissando": __version__,
        "git": git_hash(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_hash() -> str | None:
    """The commit of the clone this code runs from, with ``+`` if it was changed; None elsewhere."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+" if git("status", "--porcelain", "-uno") else "") if commit else None
    except (OSError, subprocess.TimeoutExpired):
        return None
