"""What ``logger=`` chooses; metrics.csv is written beside any of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from glissando.training.weights_and_biases import LogModel, WeightsAndBiases

log = logging.getLogger(__name__)


def none(folder: Path, name: str, settings: dict[str, Any]) -> list[Logger]:
    """metrics.csv alone."""
    return []


def tensorboard(folder: Path, name: str, settings: dict[str, Any]) -> list[Logger]:
    """Event files in <run>/tensorboard."""
    from lightning.pytorch.loggers import TensorBoardLogger

    return [TensorBoardLogger(folder, name="", version="tensorboard")]


def wandb(
    folder: Path,
    name: str,
    settings: dict[str, Any],
    project: str = "glissando",
    entity: str | None = None,
    group: str | None = None,
    tags: list[str] | None = None,
    mode: str = "auto",
    timeout: float = 20,
    finish_timeout: float = 600,
    log_model: LogModel = False,
) -> list[Logger]:
    """Weights & Biases: online when a key is there, else offline; a failure is never the run's.

    Without a key wandb raises, and with one but without a network it waits minutes: so the key is
    looked for first and the wait is bounded, and after a failure the run is logged offline.
    """
    import wandb as client

    if mode == "auto":
        mode = "online" if _has_key() else "offline"
    options: dict[str, Any] = {
        "project": project, "entity": entity, "group": group, "tags": tags, "name": name,
        "dir": str(folder), "config": settings,
    }  # fmt: skip
    for attempt in dict.fromkeys([mode, "offline"]):
        try:
            options["settings"] = client.Settings(
                init_timeout=timeout, finish_timeout=finish_timeout, finish_timeout_raises=True,
                silent=True,
            )  # fmt: skip
            run = client.init(mode=attempt, **options)  # type: ignore[arg-type]
            break
        except Exception as error:  # whatever network, server or key did: the run goes on
            log.warning("Weights & Biases is out of reach (%s): logging offline", error)
    else:
        log.warning("Weights & Biases does not start at all: metrics.csv has every number")
        return []
    if attempt == "offline":
        log.info("W&B logs offline; `wandb sync %s` uploads it later", Path(run.dir).parent)
    return [WeightsAndBiases(run, log_model)]


def close(loggers: Iterable[Logger]) -> None:
    """Ends W&B's run: else it is cut off at exit, and a sweep's next job logs into it."""
    for logger in loggers:
        if isinstance(logger, WeightsAndBiases):
            logger.close()


def _has_key() -> bool:
    if os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return netrc.is_file() and "api.wandb.ai" in netrc.read_text(errors="ignore")
