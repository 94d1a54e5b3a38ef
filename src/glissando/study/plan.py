"""``glissando plan``: what fits into which memory, and how long a run would take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from rich.table import Table

from glissando.build import bare_network, plain
from glissando.build import representation as representation_of
from glissando.errors import UserError
from glissando.networks.summary import flops, kept_bytes, parameters
from glissando.progress import OUT
from glissando.study.matching import latent_shape
from glissando.training.sharding import blocks_of

GIB = 2**30
RESERVED = 0.1  # of the memory: the allocator's gaps, kernels' workspaces, the libraries
HALF_KEPT = (
    0.6  # of float32's bytes that are kept under bf16-mixed: norms and sums stay as they are
)


@dataclass(frozen=True)
class Plan:
    """The model of a training step, of which everything else follows by arithmetic.

    Args:
        parameters: P. unit: of the largest part that is gathered at once under FSDP.
        forward: operations of one clip forward. kept: bytes of one clip for the backward pass.
        processes: of all nodes. sharded: FSDP. half: under autocast. averaged: with EMA.
        again: forward passes that checkpointing repeats in the backward pass, 0 or 1.
    """

    parameters: int
    unit: int
    forward: int
    kept: float
    processes: int
    sharded: bool
    half: bool
    averaged: bool
    again: int

    def states(self) -> dict[str, float]:
        """Bytes that a process holds whatever its batch, by what they are."""
        share = self.processes if self.sharded else 1
        own = self.parameters / share
        held = {"weights": 4 * own, "gradients": 4 * own, "AdamW": 8 * own}
        if self.averaged:
            held["EMA"] = 4 * own
        if self.sharded:  # one block in use and the next under way, with the gradients of one
            held["gathered blocks"] = 3 * 4.0 * self.unit
        elif self.processes > 1:
            held["DDP's buckets"] = 4.0 * self.parameters
        if self.half:  # autocast keeps a copy of each weight in the pass
            held["half copies"] = 2.0 * (2 * self.unit if self.sharded else self.parameters)
        return held

    def memory(self, batch: int) -> float:
        """Bytes of a process with so many clips."""
        return sum(self.states().values()) + batch * self.kept

    def largest_batch(self, gib: float) -> int:
        """Clips a process that fit into ``gib``; 0 where none does."""
        room = gib * GIB * (1 - RESERVED) - sum(self.states().values())
        return max(0, math.floor(room / self.kept))

    def seconds(self, batch: int, tflops: float, mfu: float) -> float:
        """Of a step, by the operations that count: three forward passes of each clip.

        ``mfu`` is model FLOPs utilization, so what checkpointing repeats comes on top.
        """
        return (3 + self.again) * self.forward * batch / (tflops * mfu * 1e12)


def plan(cfg: DictConfig) -> None:
    """Prints the plan of a diffusion model's training. Raises UserError for any other."""
    if not cfg.stage.endswith(".diffusion"):
        raise UserError(f"glissando plan knows diffusion models; model={cfg.name} is none")
    for key in ("gib", "tflops", "mfu"):
        if not isinstance(cfg.plan[key], (int, float)) or not cfg.plan[key] > 0:
            raise UserError(f"plan.{key} must be above 0, not {cfg.plan[key]}")
    made, seconds = planned(cfg)
    batch = cfg.loader.batch_size
    OUT.print(_table(cfg, made, batch, seconds))
    fits = made.largest_batch(cfg.plan.gib)
    if batch > fits:
        OUT.print(_advice(cfg, made, fits))


def planned(cfg: DictConfig) -> tuple[Plan, float]:
    """The plan of a config, and the seconds of audio of a clip."""
    devices = cfg.trainer.devices
    if not isinstance(devices, int):
        raise UserError(f"glissando plan wants trainer.devices= as a number, not {devices}")
    shape, rate, latent = _latent(cfg)
    config = plain(cfg)
    if "text" in config["conditioner"]:
        config["conditioner"]["text"]["cache"] = None
    with torch.device("meta"):
        network, sizes = bare_network(config, latent)
    half = str(cfg.trainer.precision) != "32-true"
    blocks = [parameters(block) for block in blocks_of(network)]
    rest = parameters(network) - sum(blocks)
    kept = kept_bytes(network, shape, sizes) * (HALF_KEPT if half else 1)
    made = Plan(
        parameters(network), max([*blocks, rest]), flops(network, shape, sizes), kept,
        devices * cfg.trainer.num_nodes, cfg.trainer.strategy == "fsdp", half,
        cfg.ema is not None, int(bool(config["model"].get("checkpointing"))),
    )  # fmt: skip
    return made, shape[2] / rate


def _latent(cfg: DictConfig) -> tuple[tuple[int, int, int], float, Any]:
    """(C, F, T) of a clip, latent frames a second, and what the network is built for."""
    given = plain(cfg.plan.latent)
    lengths = [each for each in (cfg.loader.seconds, cfg.data.get("seconds")) if each]
    if given is not None:
        if len(given) != 3:
            raise UserError(f"plan.latent={given}: give [C,F,T]")
        seconds = min(lengths, default=math.nan)
        return tuple(given), given[2] / seconds, _Shape(*given[:2])
    if not lengths:
        raise UserError("how long a clip is? set loader.seconds=")
    representation = representation_of(cfg)
    rate = representation.sample_rate / representation.hop
    return latent_shape(representation, min(lengths)), rate, representation


@dataclass(frozen=True)
class _Shape:
    """As much of a representation as a network wants to know."""

    channels: int
    freqs: int


def _table(cfg: DictConfig, made: Plan, batch: int, seconds: float) -> Table:
    trainer, wanted = cfg.trainer, cfg.plan
    table = Table(
        "", "", show_header=False, title=f"{cfg.name}, trainer.strategy={trainer.strategy}"
    )
    table.add_row("parameters", f"{made.parameters:,}")
    table.add_row("one clip forward", f"{made.forward / 1e9:,.1f} GFLOP")
    for name, held in made.states().items():
        table.add_row(f"  {name}", f"{held / GIB:.2f} GiB")
    table.add_row(
        f"  kept for the backward pass, {batch} clips", f"{batch * made.kept / GIB:.2f} GiB"
    )
    table.add_row("memory of a process", f"{made.memory(batch) / GIB:.2f} of {wanted.gib} GiB")
    table.add_row("clips of a process that fit", f"{made.largest_batch(wanted.gib):,}")
    accumulate = trainer.accumulate_grad_batches
    step = accumulate * made.seconds(batch, wanted.tflops, wanted.mfu)
    clips = batch * made.processes * accumulate
    table.add_row("clips of a step", f"{clips:,} in {made.processes} processes")
    table.add_row(f"step at {wanted.mfu:.0%} of {wanted.tflops} TFLOP/s", f"{step:.4g} s")
    table.add_row("audio a second", f"{clips * seconds / step:,.0f} s")
    if trainer.max_steps > 0:
        whole = step * trainer.max_steps / 3600
        table.add_row(f"{trainer.max_steps:,} steps", f"{whole:,.2f} h")
    return table


def _advice(cfg: DictConfig, made: Plan, fits: int) -> str:
    if fits:
        return (
            f"it does not fit: loader.batch_size={fits} does (trainer.accumulate_grad_batches= "
            "keeps the step as large)"
        )
    flags = []
    if not made.again:
        flags.append("model.checkpointing=true")
    if not made.sharded:
        flags.append("trainer=fsdp")
    flags += ["more trainer.devices=", "a smaller model="]
    return f"not one clip fits: {', '.join(flags)}"
