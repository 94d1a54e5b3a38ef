"""One training run, from its config to the optimized metric."""

from __future__ import annotations

import logging
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, OmegaConf

from glissando.build import Run, plain
from glissando.checkpoints.facts import facts
from glissando.checkpoints.files import locate, read, read_training
from glissando.checkpoints.instantiate import instantiate
from glissando.cli.conf import pretrained_dir
from glissando.errors import UserError
from glissando.training.callbacks import Best, Checkpoints, Facts, Finite, Interrupted, Speed
from glissando.training.csv_log import MetricsCSV
from glissando.training.data import Position
from glissando.training.ema import EMA
from glissando.training.precision import resolve
from glissando.training.progress import ProgressBar, say
from glissando.training.safe_io import SafeCheckpointIO

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> float | None:
    """Trains what ``cfg`` says in Hydra's run folder; returns the metric that ``monitor`` names."""
    _quiet()
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision(cfg.matmul_precision)
    folder = Path(HydraConfig.get().runtime.output_dir)
    ckpt = resume_from(cfg.ckpt, folder)
    run = _stage(cfg.stage)(cfg)
    for note in run.notes:
        say(note)
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)

    csv = MetricsCSV(folder)
    if ckpt is not None:
        csv.cut(read_training(ckpt)["global_step"])
    loggers = [csv, *instantiate(cfg.logger)(folder, cfg.name, plain(cfg))]
    trainer = _trainer(cfg, run, folder, loggers)
    if ckpt is None:
        _begin(cfg, run)
    say(f"run folder: {folder}")
    trainer.fit(run.module, run.data, ckpt_path=ckpt, weights_only=True)
    return _finish(cfg, trainer, run, folder)


def resume_from(ckpt: str | None, folder: Path) -> Path | None:
    """The checkpoint to resume: none, this run's own (``last``), or the file that is named."""
    if ckpt is None:
        return None
    if ckpt == "last":
        own = folder / "checkpoints" / "last.ckpt"
        if own.is_file():
            say(f"resuming {own}")
            return own
        say(f"ckpt=last: nothing to resume in {folder} yet, starting afresh")
        return None
    path = locate(ckpt)
    if path.is_dir():
        raise UserError(f"ckpt={ckpt} is a shipped model without optimizer state: use init={ckpt}")
    say(f"resuming {path}")
    return path


def _stage(name: str) -> Any:
    module, _, function = name.rpartition(".")
    return getattr(import_module(module), function)


def _begin(cfg: DictConfig, run: Run) -> None:
    """What a run that does not resume starts from."""
    if cfg.init is not None:
        stored = read(locate(cfg.init, pretrained_dir()))
        missing, unexpected = run.module.load_state_dict(stored.weights, strict=False)
        missing = [name for name in missing if not name.startswith("discriminator.")]
        if missing or unexpected:
            raise UserError(
                f"init={cfg.init} does not fit model={cfg.name}: {len(missing)} weights missing "
                f"({', '.join(missing[:3])}), {len(unexpected)} unknown "
                f"({', '.join(unexpected[:3])})"
            )
        say(f"weights from {stored.path}")
    elif run.warm_start is not None:
        run.warm_start()


def _trainer(cfg: DictConfig, run: Run, folder: Path, loggers: list[Any]) -> L.Trainer:
    said = facts(run.kind, plain(cfg), run.representation)
    said["averaged"] = run.module.averaged_name
    checkpoint, demo = cfg.callbacks.checkpoint, plain(cfg.callbacks.demo)
    callbacks: list[Callback] = [Position(), Facts(said), Finite(), Speed(cfg.loader.batch_size)]
    if cfg.ema is not None:
        callbacks.append(EMA(cfg.ema))
    if demo["every_n_steps"]:
        callbacks.append(run.module.demo(folder / "demos", **demo))
    if cfg.callbacks.progress:
        callbacks.append(ProgressBar())
    last = Checkpoints(folder / "checkpoints", checkpoint.every_n_train_steps)
    callbacks += [Interrupted(folder / "checkpoints" / "last.ckpt"), last]
    if checkpoint.save_top_k:
        callbacks.append(Best(folder / "checkpoints", cfg.monitor, checkpoint.save_top_k))
    settings = plain(cfg.trainer)
    settings["precision"] = resolve(settings["precision"], settings["accelerator"])
    # A run shorter than the interval still validates once, at its end.
    if settings["max_steps"] and settings["max_steps"] > 0:
        settings["val_check_interval"] = min(
            settings["val_check_interval"], settings["max_steps"] * settings["accumulate_grad_batches"]
        )
    return instantiate(
        settings, logger=loggers, callbacks=callbacks, plugins=[SafeCheckpointIO()],
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=str(folder),
        max_epochs=-1,
    )  # fmt: skip


def _finish(cfg: DictConfig, trainer: L.Trainer, run: Run, folder: Path) -> float | None:
    """Validates the last weights if nobody has, and writes the final checkpoint."""
    metric = trainer.callback_metrics.get(cfg.monitor)
    if trainer.interrupted or trainer.state.status == "interrupted":
        return None
    trainer.save_checkpoint(folder / "checkpoints" / "last.ckpt")
    say(f"done: {folder / 'checkpoints' / 'last.ckpt'}")
    return None if metric is None else float(metric)


def _quiet() -> None:
    """Silences what Lightning says to people who did not choose what it complains about."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for text in (
        ".*does not have many workers.*",
        ".*IterableDataset.*has `__len__` defined.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*lr_scheduler.step.*",
        ".*isinstance.treespec, LeafSpec.*",
    ):
        warnings.filterwarnings("ignore", text)
