"""Raw-audio autoencoders beside diffusers' AutoencoderOobleck: encode, decode, training step.

    python benchmarks/autoencoders.py [--runs 9] [--only coding] [--short]

One processor thread, float32, all at one shape:

- coding: encode and decode as a loaded model does (weight norm folded, no gradients). Ours has the
  weights of diffusers' and makes the same sound; the spectral autoencoder is conf/model/vae.yaml's
  at the same hop and channels.
- step: forward and backward of the network alone; a training step without and with its adversary,
  losses and optimizers as conf/ has them, the same for all. How many backward passes through the
  generator a step with adversary has, and most MiB of tensors alive in it (benchmarks/alive.py).
- adversary: the generator's forward pass and the discriminator's step as it is, on audio that is
  detached, and as it would be if its gradient went on into the generator.
- long: decoding ten minutes of stereo with an Oobleck of Stable Audio's layout (multiples
  1-2-4-8-16, strides 2-4-4-8-8, latent 64; see --width), in a process of its own.

What is compared takes turns, and a ratio is the median (range) of the rounds' ratios. Seconds are
those that this process had of the processor; weights are random.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from alive import Alive
from contenders import in_turn, over
from measure import Row, fresh, peak_memory, seconds_of, show, spread
from raw_audio import AUDIO_CHANNELS, RATE, Shape, Training, contenders

from glissando.networks.fold import fold
from glissando.networks.oobleck import OobleckAutoencoder
from glissando.networks.summary import parameters
from glissando.representations.autoencoder import Autoencoder

BASE = "diffusers"
MINUTES, LONG_CHANNELS = 10, 64
LAYOUT = {"multiples": (1, 2, 4, 8, 16), "strides": (2, 4, 4, 8, 8)}  # Stable Audio's


def coding(shape: Shape, runs: int) -> list[Row]:
    """Encoding and decoding of each, in turn."""
    networks: dict[str, Any] = dict(contenders(shape))
    sizes = {name: parameters(network) for name, network in networks.items()}
    for network in networks.values():  # diffusers' weight norm is of a kind that computes anew
        fold(network.eval())
    wave = 0.1 * torch.randn(shape.batch, AUDIO_CHANNELS, shape.length)
    z = {name: network.encode(wave).mean.detach() for name, network in networks.items()}
    z["ours"] = z[BASE]
    works: dict[Any, Callable[[], Any]] = {}
    for name, network in networks.items():
        works[name, "encode"] = partial(torch.no_grad()(network.encode), wave)
        works[name, "decode"] = partial(torch.no_grad()(network.decode), z[name], shape.length)
    made = {name: works[name, "decode"]() for name in networks}
    took = in_turn(works, runs, "cpu")
    return [
        {
            "network": name, "parameters": sizes[name], "clip_seconds": shape.seconds,
            "differs": float((made[name] - made[BASE]).abs().max() / made[BASE].abs().max()),
            "encode": took[name, "encode"], "seconds": took[name, "decode"],
            "encode_times": over(took[BASE, "encode"], took[name, "encode"]),
            "times": over(took[BASE, "decode"], took[name, "decode"]),
        }
        for name in networks
    ]  # fmt: skip


def step(shape: Shape, runs: int) -> list[Row]:
    """Training steps of each, in turn."""
    alone, whole = (
        {name: Training(network, shape, adversary) for name, network in contenders(shape).items()}
        for adversary in (False, True)
    )
    works: dict[Any, Callable[[], object]] = {}
    for name in alone:
        works[name, "network"] = alone[name].network_step
        works[name, "alone"] = alone[name].step
        works[name, "whole"] = whole[name].step
    took = in_turn(works, runs, "cpu")
    rows = []
    for name, training in whole.items():
        before = training.backwards
        with Alive() as seen:
            training.step()
        row: Row = {"network": name, "bytes": seen.most, "backwards": training.backwards - before}
        for part, key in [("network", "network_s"), ("alone", "alone"), ("whole", "seconds")]:
            row[key] = took[name, part]
            row[f"{key}_times"] = over(took[BASE, part], took[name, part])
        rows.append(row)
    return rows


def adversary(shape: Shape, runs: int) -> list[Row]:
    """The discriminator's step of our Oobleck with its audio detached, and not."""
    training = Training(contenders(shape)["ours"], shape, adversary=True)
    works = {
        "detached, as it is": training.adversary_step,
        "not detached": partial(training.adversary_step, detached=False),
    }
    backwards = {}
    for name, work in works.items():
        before = training.backwards
        work()
        backwards[name] = training.backwards - before
    took = in_turn(works, runs, "cpu")
    return [
        {
            "audio": name, "backwards": backwards[name], "seconds": took[name],
            "ratio": over(took[name], took["detached, as it is"]),
        }
        for name in works
    ]  # fmt: skip


@torch.no_grad()
def decoded(width: int, seconds: float) -> Row:
    """A decode of that much audio at Stable Audio's layout, in this process."""
    torch.set_num_threads(1)
    network = OobleckAutoencoder(LONG_CHANNELS, AUDIO_CHANNELS, width, **LAYOUT)
    count = parameters(network)
    form = fold(Autoencoder(network, RATE).eval())
    length = round(seconds * RATE)
    z = torch.randn(1, LONG_CHANNELS, 1, form.frames(length))
    before = peak_memory()
    took = seconds_of(lambda: form.decode(z, length), 1, warm=0)
    return {
        "width": width, "parameters": count, "clip_seconds": seconds, "seconds": took,
        "mib": peak_memory(), "mib_before": before, "mib_wave": AUDIO_CHANNELS * length * 4 / 2**20,
        "reach": form.reach,
    }  # fmt: skip


def ms(seconds: list[float]) -> str:
    return spread([1e3 * each for each in seconds])


def times(ratios: list[float]) -> str:
    return spread(ratios, ".2f")


Columns = dict[str, Callable[[Row], str]]
# Each table: what measures it, its heading, its columns.
TABLES: dict[str, tuple[Callable[[Shape, int], list[Row]], str, Columns]] = {
    "coding": (
        coding,
        "encode and decode",
        {
            "network": lambda row: row["network"],
            "parameters": lambda row: f"{row['parameters'] / 1e6:.2f} M",
            "encode ms": lambda row: ms(row["encode"]),
            "times as fast as diffusers'": lambda row: times(row["encode_times"]),
            "decode ms": lambda row: ms(row["seconds"]),
            "times as fast": lambda row: times(row["times"]),
            "largest difference": lambda row: (
                "other weights" if row["network"] == "spectral" else f"{row['differs']:.1e}"
            ),
        },
    ),
    "step": (
        step,
        "a training step",
        {
            "network": lambda row: row["network"],
            "network alone ms": lambda row: ms(row["network_s"]),
            "times as fast as diffusers'": lambda row: times(row["network_s_times"]),
            "step ms": lambda row: ms(row["alone"]),
            "times as fast ": lambda row: times(row["alone_times"]),
            "with adversary ms": lambda row: ms(row["seconds"]),
            "times as fast": lambda row: times(row["seconds_times"]),
            "backward passes": lambda row: str(row["backwards"]),
            "most MiB alive": lambda row: f"{row['bytes'] / 2**20:.0f}",
        },
    ),
    "adversary": (
        adversary,
        "the discriminator's step, with the generator's forward pass",
        {
            "generated audio": lambda row: row["audio"],
            "backward passes through the generator": lambda row: str(row["backwards"]),
            "ms": lambda row: ms(row["seconds"]),
            "ratio": lambda row: times(row["ratio"]),
        },
    ),
}
LONG: Columns = {
    "width": lambda row: str(row["width"]),
    "parameters": lambda row: f"{row['parameters'] / 1e6:.1f} M",
    "audio": lambda row: f"{row['clip_seconds']:.0f} s",
    "its MiB": lambda row: f"{row['mib_wave']:.0f}",
    "s": lambda row: spread(row["seconds"]),
    "peak MiB (before)": lambda row: f"{row['mib']:.0f} ({row['mib_before']:.0f})",
}


def main() -> None:
    """Prints the tables, or a JSON line a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=9, help="rounds that are timed")
    parser.add_argument("--only", choices=[*TABLES, "long"], help="one table")
    parser.add_argument("--width", type=int, default=16, help="of the long decode; published: 128")
    parser.add_argument("--seconds", type=float, default=60 * MINUTES, help="of the long decode")
    parser.add_argument("--clip", type=float, default=1.5, help="seconds, but for the long decode")
    parser.add_argument("--short", action="store_true", help="tiny networks: does it all run?")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of tables")
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)  # its own process
    given = parser.parse_args()
    if given.row:
        print(json.dumps(decoded(given.width, given.seconds)))
        return
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = Shape(width=8, channels=8, seconds=0.2) if given.short else Shape(seconds=given.clip)
    print(f"python benchmarks/autoencoders.py {' '.join(sys.argv[1:])}")
    for name in [given.only] if given.only else [*TABLES, "long"]:
        if name == "long":
            size = ["--width", str(given.width), "--seconds", str(given.seconds)]
            rows, heading, columns = (
                [fresh(__file__, "--row", *size)],
                f"a long decode, {LAYOUT}",
                LONG,
            )
        else:
            measured, heading, columns = TABLES[name]
            rows, heading = measured(shape, given.runs), f"{heading}: {shape}"
        rows = [{"table": name, **row} for row in rows]
        show(f"\n{heading} (one thread)", rows, columns, given.json)


if __name__ == "__main__":
    main()
