"""What conditioning costs a DiT, and a DiT beside diffusers' StableAudioDiTModel.

    python benchmarks/networks.py [--runs 9] [--only diffusers] [--short]

On one processor thread, and again on a GPU where there is one:

- diffusers: a DiT like Stable Audio Open's and diffusers' of the same shape, which compute the same
  (tests/networks/test_dit_stable_audio.py). "padding masked" is ours as conf/ has it: text may be
  padded and padding has no influence; theirs has no such mask.
- adaln: adaptive norms in a DiT, against none (a mechanism that reads the noise level, no more),
  here and at the size of conf/model/dit.yaml.
- keeping: cross-attention's keys and values computed once a clip, as generation does, or each step.
- attention: what a forward and backward pass keeps as clips grow; see benchmarks/alive.py.
- kernels: attention in bfloat16 as plain products, which a processor gets where there are few
  scores, and by torch's fused kernel.
- text: a training step's captions from the encoder, from its cache on disk, and from memory.

What is compared takes turns, and a ratio is the median (range) of the rounds' ratios. Seconds on a
processor are those that this process had of it. A step is forward pass, backward pass and optimizer
as conf/ has it; weights are random.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from contenders import STABLE_AUDIO, Contender, Given, Shape, config, in_turn, ours, over, theirs
from measure import Row, show, spread
from spared import attention, kernels, keys_kept, text

from glissando.condition import Condition, Vector
from glissando.conditioning.base import Mechanism

PRECISIONS = ["32-true", "bf16-mixed"]
# As conf/model/dit.yaml on six seconds of the shipped autoencoder's latents, two frames a token.
SHIPPED = Shape(width=320, depth=4, heads=5, batch=16, frames=66)


def diffusers(shape: Shape, runs: int, device: str) -> list[Row]:
    """Forward passes and steps of ours and theirs."""
    given = Given.draw(shape, device)
    masked = config(shape, *STABLE_AUDIO)
    unmasked = config(shape, *STABLE_AUDIO, "conditioning.cross_attention.attend_padding=true")
    contenders = {
        "ours": ours(unmasked, given),
        "ours, padding masked": ours(masked, given),
        "diffusers": theirs(shape, unmasked, given),
    }
    return compared(contenders, "diffusers", runs, device)


class Nothing(Mechanism):
    """Takes the noise level, so that the network may be built, and has no part in it."""

    carries: ClassVar = (Vector,)
    noise_rank: ClassVar = 0

    def forward(self, condition: Condition) -> None:
        return None


def adaln(shape: Shape, runs: int, device: str) -> list[Row]:
    """Forward passes and steps of a DiT with and without adaptive norms, at two sizes."""
    rows: list[Row] = []
    for size in (shape, SHIPPED):
        given = Given.draw(size, device)
        model = ["model=dit", "model.patch=[1,1]"]
        contenders = {
            name: ours(config(size, *model, f"conditioning=[{name}]"), given)
            for name in ("adaln_zero", "adaln_single", "film")
        }
        half = f"conditioning.adaln_zero.embedding={size.width // 2}"
        contenders["adaln_zero, half the embedding"] = ours(config(size, *model, half), given)
        nothing = {"nothing": partial(Nothing, reads=["noise"])}
        contenders["nothing"] = ours(config(size, *model), given, nothing)
        label = f"{size.width} x {size.depth}"
        rows += [{"size": label, **r} for r in compared(contenders, "nothing", runs, device)]
    return rows


def compared(contenders: dict[str, Contender], base: str, runs: int, device: str) -> list[Row]:
    """The row of each contender at each precision, with its ratios to ``base``."""
    took: dict[Any, list[float]] = {}
    for part in ("forward", "step"):
        works = {
            (name, precision, part): partial(getattr(contender, part), precision)
            for precision in PRECISIONS
            for name, contender in contenders.items()
        }
        took |= in_turn(works, runs, device)
    return [
        {
            "network": name, "precision": precision, "base": base, "device": device,
            "parameters": contender.parameters, "flop": contender.flop,
            "forward": took[name, precision, "forward"],
            "forward_ratio": over(*(took[n, precision, "forward"] for n in (name, base))),
            "seconds": took[name, precision, "step"],
            "ratio": over(*(took[n, precision, "step"] for n in (name, base))),
            "gain": over(*(took[name, p, "step"] for p in (PRECISIONS[0], precision))),
        }
        for precision in PRECISIONS
        for name, contender in contenders.items()
    ]  # fmt: skip


def ms(seconds: list[float]) -> str:
    return spread([1e3 * s for s in seconds])


def mib(count: float) -> str:
    return f"{count / 2**20:.1f}"


Columns = dict[str, Callable[[Row], str]]
CONTENDER: Columns = {
    "network": lambda row: row["network"],
    "precision": lambda row: row["precision"],
    "parameters": lambda row: f"{row['parameters'] / 1e6:.2f} M",
    "GFLOP forward": lambda row: f"{row['flop'] / 1e9:.1f}",
    "forward ms": lambda row: ms(row["forward"]),
    "step ms": lambda row: ms(row["seconds"]),
}
# Each table: what measures it, its heading, its columns.
TABLES: dict[str, tuple[Callable[[Shape, int, str], list[Row]], str, Columns]] = {
    "diffusers": (
        diffusers,
        "our DiT and diffusers' StableAudioDiTModel",
        {
            **CONTENDER,
            "forward / diffusers'": lambda row: spread(row["forward_ratio"], ".2f"),
            "step / diffusers'": lambda row: spread(row["ratio"], ".2f"),
            "times faster than 32-true": lambda row: spread(row["gain"], ".2f"),
        },
    ),
    "adaln": (
        adaln,
        "adaptive norms in a DiT",
        {
            "width x depth": lambda row: row["size"],
            **CONTENDER,
            "share of forward": lambda row: shares(row["forward_ratio"]),
            "share of step": lambda row: shares(row["ratio"]),
        },
    ),
    "keeping": (
        keys_kept,
        "keys and values of a fixed condition, one clip with guidance",
        {
            "keys and values": lambda row: row["keys and values"],
            "projections a clip": lambda row: str(row["projections"]),
            "ms/step": lambda row: ms(row["seconds"]),
            "ratio": lambda row: spread(row["ratio"], ".3f"),
        },
    ),
    "attention": (
        attention,
        "memory of a step of two blocks, one clip",
        {
            "tokens N": lambda row: str(row["tokens"]),
            "padding": lambda row: "masked" if row["padded"] else "none",
            "most MiB alive": lambda row: mib(row["bytes"]),
            "more KiB for one more token": lambda row: (
                f"{row['bytes_a_token'] / 1024:.1f}" if "bytes_a_token" in row else ""
            ),
            "(N, N) tensors": lambda row: str(row["squares"]),
            "MiB of one for each head": lambda row: mib(row["square_bytes"]),
            "step ms": lambda row: ms(row["seconds"]),
        },
    ),
    "kernels": (
        kernels,
        "attention in bfloat16, forward and back",
        {
            "batch x heads x N x S": lambda row: row["batch x heads x N x S"],
            "plain products ms": lambda row: ms(row["seconds"]),
            "fused kernel ms": lambda row: ms(row["fused"]),
            "fused / plain": lambda row: spread(row["gain"], ".2f"),
        },
    ),
    "text": (
        text,
        "text in a training step, bf16-mixed",
        {
            "captions from": lambda row: row["text"],
            "captions encoded a step": lambda row: str(row["captions"]),
            "ms": lambda row: ms(row["seconds"]),
            "ms of the rest": lambda row: ms(row["rest"]),
            "share of step": lambda row: spread(row["share"], ".2%"),
        },
    ),
}


def shares(ratios: list[float]) -> str:
    """What is added, of the whole, from ratios to what it is added to."""
    return spread([1 - 1 / ratio for ratio in ratios], ".1%")


def main() -> None:
    """Prints the tables, or a JSON line a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=9, help="rounds that are timed")
    parser.add_argument("--only", choices=TABLES, help="one table")
    parser.add_argument("--short", action="store_true", help="tiny networks: does it all run?")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of tables")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # as train.yaml has it; of a GPU
    shape = Shape(128, 1, 2, 2, 32, 8) if given.short else Shape()
    print(f"python benchmarks/networks.py {' '.join(sys.argv[1:])}\n{shape}")
    for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        where = "one thread" if device == "cpu" else torch.cuda.get_device_name()
        for name in [given.only] if given.only else TABLES:
            measured, heading, columns = TABLES[name]
            rows = [{"table": name, **row} for row in measured(shape, given.runs, device)]
            show(f"\n{heading} ({where})", rows, columns, given.json)


if __name__ == "__main__":
    main()
