"""Lightning's trainer, from ``trainer=``, and what surrounds its ``fit``."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L
from hydra.errors import InstantiationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig
from torch import nn

from glissando.build import plain
from glissando.checkpoints.instantiate import instantiate
from glissando.errors import UserError
from glissando.training import slurm
from glissando.training.precision import precision_of
from glissando.training.safe_io import SafeCheckpointIO
from glissando.training.sharding import blocks_of
from glissando.training.strategy import resolve as resolve_strategy

OURS = ("find_batch_size", "batch_gib")
"""Keys of ``trainer=`` that Lightning's does not know (``training.batch``)."""


def trainer_of(
    cfg: DictConfig, module: Any, callbacks: Sequence[Callback], **changed: Any
) -> L.Trainer:
    """The trainer of ``module``, without logger, bar or checkpoints of its own.

    ``changed`` stands in for settings of ``cfg.trainer``. Raises UserError for a value that
    Lightning does not take, in its words.
    """
    own = {key: value for key, value in plain(cfg.trainer).items() if key not in OURS}
    settings = {**own, **changed}
    settings |= precision_of(settings["precision"], settings["accelerator"])
    settings["plugins"] += [SafeCheckpointIO(), *slurm.environment()]
    several = settings["devices"] not in (1, "1") or settings["num_nodes"] > 1
    settings["strategy"] = resolve_strategy(settings["strategy"], module, several)
    try:
        return instantiate(
            settings, logger=False, callbacks=list(callbacks),
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
    except InstantiationException as error:
        hint = (
            ""
            if settings["accelerator"] in ("auto", "cpu")
            else "; trainer=auto takes what is there"
        )
        raise UserError(f"trainer: {error.__cause__ or error}{hint}") from error


def compile_blocks(module: nn.Module) -> None:
    """Each block alone: those that are alike share one result; names in checkpoints stay.

    Raises UserError for a model without blocks.
    """
    blocks = blocks_of(module)
    if not blocks:
        raise UserError("compile=true compiles the blocks of a DiT or U-Net: this model has none")
    for block in blocks:
        block.compile()


@contextmanager
def broken_off() -> Iterator[None]:
    """What Lightning makes of Ctrl-C and SIGTERM within is again what a program ends with."""
    try:
        yield
    except SIGTERMException:
        raise SystemExit(128 + signal.SIGTERM) from None
    except SystemExit:  # what it makes of Ctrl-C
        raise KeyboardInterrupt from None
