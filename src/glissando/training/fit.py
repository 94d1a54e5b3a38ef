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
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from glissando.build import Run, plain
from glissando.checkpoints.facts import facts
from glissando.checkpoints.files import PREVIOUS, locate, read, read_training, whole
from glissando.checkpoints.instantiate import instantiate
from glissando.checkpoints.sharded import is_sharded
from glissando.cli.conf import pretrained_dir
from glissando.datasets.shards import read_dataset
from glissando.errors import UserError
from glissando.training import slurm
from glissando.training.batch import find_batch, kept_batch
from glissando.training.callbacks import Best, Facts, Speed, ValidateLast
from glissando.training.csv_log import MetricsCSV
from glissando.training.data import Position
from glissando.training.early import look_over
from glissando.training.ema import EMA
from glissando.training.guard import Guard
from glissando.training.last import Last, Preempted
from glissando.training.loggers import close
from glissando.training.processor_time import ProcessorTime
from glissando.training.progress import ProgressBar, say
from glissando.training.trainer import broken_off, compile_blocks, trainer_of


def train(cfg: DictConfig) -> float | None:
    """Trains what ``cfg`` says in Hydra's run folder; returns the metric that ``monitor`` names.

    All that can be built without data is built first: what is wrong with the command line is
    refused before minutes of preparing and encoding, not after.
    """
    _quiet()
    look_over(cfg)
    torch.set_float32_matmul_precision(cfg.matmul_precision)
    folder = Path(HydraConfig.get().runtime.output_dir)
    ckpt = resume_from(cfg.ckpt, folder)
    if cfg.trainer.find_batch_size:
        cfg.loader.batch_size = _batch(cfg, ckpt)
    # What comes next does not know whether a batch was sought.
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    run = _stage(cfg.stage)(cfg)
    clock = ProcessorTime(run.facts, cfg.core_seconds)
    speed = Speed(cfg.loader.batch_size, _batches(cfg, run), cfg.callbacks.peak_tflops)
    trainer = _trainer(cfg, run, folder, clock, speed)
    begun = _begun(cfg, run, ckpt)
    if cfg.compile:
        compile_blocks(run.module)
    for note in run.notes:
        say(note)
    if trainer.is_global_zero:
        OmegaConf.save(cfg, folder / "config.yaml", resolve=True)

    run.prepare()
    summary = run.summary()
    if cfg.callbacks.summary:
        say(summary.text)
    speed.forward = summary.forward
    _tell_small(run, trainer)
    if ckpt is None and cfg.init is None and run.warm_start is not None:
        with clock.counting():
            run.warm_start()
    trainer.loggers = _loggers(cfg, run, folder, begun) if trainer.is_global_zero else []
    say(f"run folder: {folder}")
    _fit(trainer, run, ckpt)
    say(f"done: {_last(folder)}")
    metric = trainer.callback_metrics.get(cfg.monitor)
    return None if metric is None else float(metric)


def resume_from(ckpt: str | None, folder: Path) -> Path | None:
    """The checkpoint to resume: none, this run's own (``last``), or the file that is named."""
    if ckpt is None and slurm.requeued(_last(folder)):
        say("this job was requeued")
        ckpt = "last"
    if ckpt is None:
        return None
    if ckpt == "last":
        return _own(folder)
    path = locate(ckpt)
    if path.is_dir() and not is_sharded(path):
        raise UserError(f"ckpt={ckpt} is a shipped model without optimizer state: use init={ckpt}")
    say(f"resuming {whole(path)}")
    return path


def _own(folder: Path) -> Path | None:
    """This run folder's newest checkpoint that is not damaged; None if it has none at all."""
    found = [p for p in (_last(folder), _last(folder).with_name(PREVIOUS)) if p.exists()]
    for path in found:
        try:
            say(f"resuming {whole(path)}")
            return path
        except UserError as error:
            fault = error
            say(f"{fault}: looking for the one before")
    if found:
        raise UserError(f"ckpt=last: {fault}, and there is no other: init= a best-*.ckpt instead")
    say(f"ckpt=last: nothing to resume in {folder} yet, starting afresh")
    return None


def _stage(name: str) -> Any:
    module, _, function = name.rpartition(".")
    return getattr(import_module(module), function)


def _batch(cfg: DictConfig, ckpt: Path | None) -> int:
    """What ``trainer.find_batch_size=true`` makes of ``loader.batch_size``."""
    if ckpt is not None:
        return kept_batch(ckpt)
    run = _stage(cfg.stage)(cfg)
    _begun(cfg, run, None)  # refuses before the search what would be refused after it
    return find_batch(cfg, run)


def _begun(cfg: DictConfig, run: Run, ckpt: Path | None) -> int:
    """The step that the run begins at; loads ``init=``, and looks whether ``ckpt`` will fit."""
    if ckpt is not None:
        earlier = read_training(ckpt, assemble=False)
        fault = f"ckpt={ckpt} cannot go on as this run (init= takes its weights alone)"
        _check_fit(run.module.state_dict(), earlier["state_dict"], fault)
        return earlier["global_step"]
    if cfg.init is not None:
        stored = read(locate(cfg.init, pretrained_dir(), flag="init"))
        _load(run.module, stored.weights, f"init={cfg.init} does not fit model={cfg.name}")
        say(f"weights from {stored.path}")
    return 0


def _tell_small(run: Run, trainer: L.Trainer) -> None:
    """A batch larger than the training set is legal; whoever did not mean it is told."""
    there = read_dataset(run.data.root)["splits"]["train"]["samples"]
    together = run.data.batch_size * trainer.num_devices * trainer.num_nodes
    if there < together:
        say(f"every step takes all {there} training clips: loader.batch_size asks for {together}")


def _loggers(cfg: DictConfig, run: Run, folder: Path, begun: int) -> list[Logger]:
    csv = MetricsCSV(folder)
    csv.cut(begun)
    settings = {**plain(cfg), "git": run.facts["git"]}
    return [csv, *instantiate(cfg.logger)(folder, cfg.name, settings)]


def _load(module: Any, weights: dict[str, Tensor], fault: str) -> None:
    """Loads what is learned; a diffusion model keeps the autoencoder that its latents came from."""
    own = module.state_dict()
    first = getattr(module, "begins_with", module.averaged_name)
    learned, given = (
        {name: tensor for name, tensor in every.items() if name.startswith(first)}
        for every in (own, weights)
    )
    _check_fit(learned, given, fault)
    # The adversary's too, where both have one of the same layout.
    adversary = {
        name: tensor
        for name, tensor in weights.items()
        if name.startswith("discriminator.") and name in own and own[name].shape == tensor.shape
    }
    module.load_state_dict({**given, **adversary}, strict=False)


def _check_fit(own: dict[str, Tensor], given: dict[str, Tensor], fault: str) -> None:
    other = {name for name in own.keys() & given.keys() if own[name].shape != given[name].shape}
    for what, names in (
        ("missing", own.keys() - given.keys()), ("unknown", given.keys() - own.keys()),
        ("of another shape", other),
    ):  # fmt: skip
        if names:
            raise UserError(f"{fault}: {len(names)} weights {what}, e.g. {min(names)}")


def _fit(trainer: L.Trainer, run: Run, ckpt: Path | None) -> None:
    try:
        with broken_off():
            trainer.fit(run.module, run.data, ckpt_path=ckpt, weights_only=True)
    except Preempted as preempted:
        slurm.make_way(preempted)
        raise SystemExit(128 + preempted.number) from None
    finally:
        close(trainer.loggers)


def _last(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"


def _batches(cfg: DictConfig, run: Run) -> int:
    """Batches of a step."""
    return cfg.trainer.accumulate_grad_batches * getattr(run.module, "accumulate", 1)


def _trainer(
    cfg: DictConfig, run: Run, folder: Path, clock: ProcessorTime, speed: Speed
) -> L.Trainer:
    run.facts |= facts(run.kind, plain(cfg), run.representation)
    run.facts["averaged"] = run.module.averaged_name
    checkpoint, demo = cfg.callbacks.checkpoint, plain(cfg.callbacks.demo)
    guard = Guard(folder, cfg.callbacks.guard.patience)
    callbacks: list[Callback] = [
        Position(), clock, Facts(run.facts), guard, speed, ValidateLast(),
    ]  # fmt: skip
    if demo["every_n_steps"]:
        callbacks.append(run.module.demo(folder / "demos", **demo))
    # After the demo, which so plays the averaged weights that validation has put in place.
    if cfg.ema is not None:
        callbacks.append(EMA(cfg.ema))
    if cfg.callbacks.progress:
        callbacks.append(ProgressBar())
    callbacks.append(Last(_last(folder), checkpoint.every_n_train_steps, good=lambda: guard.good))
    if checkpoint.save_top_k:
        callbacks.append(Best(folder / "checkpoints", cfg.monitor, checkpoint.save_top_k))
    batches = _batches(cfg, run)
    return trainer_of(
        cfg, run.module, callbacks, default_root_dir=str(folder), max_epochs=-1,
        # Lightning counts batches here, and steps everywhere else.
        val_check_interval=cfg.trainer.val_check_interval * batches,
    )  # fmt: skip


def _quiet() -> None:
    """Silences what Lightning says to people who did not choose what it complains about."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for text in (
        ".*does not have many workers.*",
        ".*IterableDataset.*has `__len__` defined.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*lr_scheduler.step.*",
        ".*The dirpath has changed.*",
        ".*module.s. in eval mode.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*`srun` command is available.*",
        ".*FSDP2-wrapped module .* returned a view.*",  # which nobody here changes in place
    ):
        warnings.filterwarnings("ignore", text)
