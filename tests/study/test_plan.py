"""What `glissando plan` foretells is what happens."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from glissando.build import bare_network, plain
from glissando.cli.conf import config_dir
from glissando.condition import Condition, Sequence, Sizes, Vector
from glissando.networks.summary import kept_bytes, parameters
from glissando.study.plan import GIB, Plan
from tiny import Command, refused

SHAPE = (8, 1, 64)


def network_of(*overrides: str) -> tuple[torch.nn.Module, Sizes]:
    chosen = ["text_encoder=hash", "text_encoder.dim=16", "name=plan", *overrides]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = plain(compose("train", chosen))
    config["conditioner"]["text"]["cache"] = None
    latent: Any = SimpleNamespace(channels=SHAPE[0], freqs=SHAPE[1])
    return bare_network(config, latent)


def condition_of(sizes: Sizes) -> Condition:
    real = torch.ones(1, 32, dtype=torch.bool)
    return Condition({
        name: Vector(torch.randn(1, size.dim)) if size.kind is Vector
        else Sequence(torch.randn(1, 32, size.dim), real)
        for name, size in sizes.items()
    })  # fmt: skip


@pytest.mark.parametrize(("overrides", "within"), [
    (["model=dit_tiny"], 0.05), (["model=dit_tiny", "model.checkpointing=true"], 0.05),
    (["model=dit_tiny", "conditioning=[adaln_zero,cross_attention]"], 0.05),
    (["model=unet_tiny"], 0.05),
])  # fmt: skip
def test_what_is_kept_for_the_backward_pass(overrides: list[str], within: float) -> None:
    """Counted on the meta device nearly as autograd keeps it: attention keeps a little else."""
    network, sizes = network_of(*overrides)
    known = {p.untyped_storage()._cdata for p in [*network.parameters(), *network.buffers()]}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage()._cdata not in known:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = network(torch.randn(1, *SHAPE), torch.randn(1), condition_of(sizes))
    assert out.shape == (1, *SHAPE)
    held = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert kept_bytes(network, SHAPE, sizes) == pytest.approx(held, rel=within)


def a_plan(**changes: Any) -> Plan:
    facts = {
        "parameters": 1000, "unit": 100, "forward": 10**9, "kept": 2000.0, "processes": 1,
        "sharded": False, "half": False, "averaged": True, "again": 0,
    }  # fmt: skip
    return Plan(**{**facts, **changes})


def test_the_states_of_a_process() -> None:
    assert sum(a_plan().states().values()) == 20 * 1000  # weight, gradient, two moments, average
    assert sum(a_plan(averaged=False).states().values()) == 16 * 1000
    four = a_plan(processes=4, sharded=True).states()
    assert sum(four.values()) == 20 * 250 + four["gathered blocks"]
    assert a_plan(processes=4).states()["DDP's buckets"] == 4000


def test_the_largest_batch_fits_and_one_more_does_not() -> None:
    plan = a_plan(parameters=10**9, kept=0.3 * GIB)
    batch = plan.largest_batch(40)
    assert plan.memory(batch) <= 0.9 * 40 * GIB < plan.memory(batch + 1)
    assert plan.largest_batch(10) == 0


def test_time_is_operations_over_what_the_device_reaches() -> None:
    assert a_plan().seconds(batch=8, tflops=1.0, mfu=0.5) == pytest.approx(3 * 8e9 / 0.5e12)
    assert a_plan(again=1).seconds(8, 1.0, 0.5) == pytest.approx(4 * 8e9 / 0.5e12)


def test_the_command(command: Command, vae: Path) -> None:
    run = ["model=dit_tiny", "text_encoder=hash", f"representation.autoencoder={vae}"]
    said = command("plan", *run, "data=folder", "data.root=/x", "data.sample_rate=8000",
                   "loader.seconds=1", "trainer.devices=4", "trainer.strategy=fsdp")  # fmt: skip
    assert said.status == 0, said.err
    assert "clips of a step" in said.out
    assert "64 in 4 processes" in said.out
    small = command("plan", "model=dit_tiny", "text_encoder=hash", "plan.latent=[64,1,1024]",
                    "plan.gib=1e-3")  # fmt: skip
    assert "not one clip fits: model.checkpointing=true, trainer=fsdp" in small.out


def test_a_published_size_needs_no_autoencoder(command: Command) -> None:
    said = command("plan", "experiment=stable_audio_open", "text_encoder=hash",
                   "text_encoder.dim=768", "plan.latent=[64,1,1024]")  # fmt: skip
    assert said.status == 0, said.err
    assert "1,056,828,544" in said.out


@pytest.mark.parametrize(("flags", "line"), [
    (["model=vae"], "glissando plan knows diffusion models; model=vae is none"),
    (["plan.mfu=0"], "plan.mfu must be above 0, not 0"),
    (["trainer.devices=auto"], "glissando plan wants trainer.devices= as a number, not auto"),
    (["plan.latent=[1,2]"], "plan.latent=[1, 2]: give [C,F,T]"),
])  # fmt: skip
def test_mistakes(command: Command, flags: list[str], line: str) -> None:
    refused(command("plan", "text_encoder=hash", *flags), line)


def test_parameters_of_blocks_and_the_rest_are_all() -> None:
    from glissando.training.sharding import blocks_of

    network, _ = network_of("model=dit_tiny", "model.depth=3")
    assert len(blocks_of(network)) == 3
    assert sum(map(parameters, blocks_of(network))) < parameters(network)
