"""What a sampler costs besides the network: time and memory, beside diffusers' schedulers.

    python benchmarks/samplers.py [--runs 7] [--threads 1]

Every fixed-step sampler of conf/sampler/ as it is configured there, at latents (4, 64, 1, 256), on
the rectified path, with a denoiser that returns tensors made beforehand. The grid of times, made
once a run, is in the time of its steps. "network" is the default DiT with 8 blocks (10 M
parameters), at the same latents and threads, timed in the same process; a percentage is of the time
that the network would take for the calls that the sampler made. diffusers' rows are scheduler.step
(and scale_model_input) after set_timesteps, given tensors made beforehand likewise.

"held" is how many latents, beyond its input, the sampler keeps alive while the network runs, the
caller's noise among them; "most" how many are alive at any moment, the network's last answer
included. See benchmarks/alive.py for how they are counted.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch
from alive import Alive, Held
from measure import Row, composed, seconds_of, show, spread

from glissando.build import denoising, plain
from glissando.checkpoints.instantiate import instantiate
from glissando.cli.conf import config_dir
from glissando.diffusion.estimate import Estimate
from glissando.diffusion.path_rectified import Rectified
from glissando.samplers.base import Sampler
from glissando.samplers.noise import ClipNoise
from glissando.samplers.ode import Solver

SHAPE = (4, 64, 1, 256)
STEPS = 50
DPM = "DPMSolverMultistepScheduler"
# The scheduler of diffusers that does the same (or the nearest), its options, those of its step.
RIVALS: dict[str, list[tuple[str, dict[str, Any], dict[str, Any]]]] = {
    "ddim": [("DDIMScheduler", {}, {"eta": 0.5})],
    "dpmpp_2m": [(DPM, {}, {})],
    "dpmpp_2m_sde": [
        (DPM, {"algorithm_type": "sde-dpmsolver++"}, {}),
        ("CosineDPMSolverMultistepScheduler", {}, {}),  # on torchsde's Brownian tree
    ],
    "dpmpp_3m_sde": [(DPM, {"solver_order": 3, "algorithm_type": "dpmsolver++"}, {})],
    "euler": [("FlowMatchEulerDiscreteScheduler", {}, {}), ("EDMEulerScheduler", {}, {})],
    "euler_ancestral": [("EulerAncestralDiscreteScheduler", {}, {})],
    "euler_maruyama": [("DPMSolverSDEScheduler", {}, {})],  # on torchsde's Brownian tree
    "heun": [("HeunDiscreteScheduler", {}, {}), ("FlowMatchHeunDiscreteScheduler", {}, {})],
    "heun_churn": [("FlowMatchHeunDiscreteScheduler", {}, {"s_churn": 40.0})],
    "pingpong": [("LCMScheduler", {}, {})],
    "unipc": [("UniPCMultistepScheduler", {}, {})],
}


class Latents:
    """What a network needs to know of a representation."""

    channels, freqs, sample_rate, hop = SHAPE[1], SHAPE[2], 22050, 512


def network(runs: int) -> tuple[list[float], int]:
    """Seconds of a call of the denoiser, and its parameters."""
    cfg = composed("train", "model=dit", "model.depth=8", "text_encoder=hash", "name=benchmark",
                   "conditioner.text.cache=null")  # fmt: skip
    parts: Any = denoising(plain(cfg), Latents())  # type: ignore[arg-type]
    clips = [{"caption": "a slow air", "seconds_start": 0.0, "seconds_total": 6.0}] * SHAPE[0]
    condition = parts.conditioners(clips, frames=SHAPE[-1])
    z, t = torch.randn(SHAPE), torch.full(SHAPE[:1], 0.5, dtype=torch.float64)
    parameters = sum(p.numel() for p in parts.denoiser.parameters())
    return seconds_of(lambda: parts.denoiser(z, t, condition), runs, warm=2), parameters


def fixed_step() -> Iterator[tuple[str, Sampler]]:
    """The samplers of conf/sampler/ that choose their own steps, by name."""
    for path in sorted((config_dir() / "sampler").glob("*.yaml")):
        sampler = instantiate(plain(composed("sample", f"sampler={path.stem}").sampler))
        if not isinstance(sampler, Solver):
            yield path.stem, sampler


def ours(name: str, sampler: Sampler, answers: Estimate, runs: int) -> Row:
    """Time and memory of one sampler."""
    path, fresh = Rectified(), ClipNoise(range(SHAPE[0]), SHAPE[1:])
    noise = fresh()
    took = seconds_of(lambda: sampler(lambda z, t: answers, path, noise, fresh), runs)
    with Alive() as alive:
        denoise = Held(alive, answers)
        fresh = ClipNoise(range(SHAPE[0]), SHAPE[1:])
        sampler(denoise, path, fresh(), fresh)
    return {
        "sampler": name, "steps": sampler.steps, "calls": sampler.evaluations, "seconds": took,
        "held": denoise.held, "most": alive.most / noise.numel() / noise.element_size(),
    }  # fmt: skip


def theirs(name: str, options: dict[str, Any], each: dict[str, Any], runs: int) -> Row:
    """Time of one of diffusers' schedulers."""
    import diffusers

    warnings.simplefilter("ignore")  # torchsde's on rounded times
    scheduler = getattr(diffusers, name)(**options)
    sample, output = torch.randn(2, *SHAPE)
    scale: Callable[..., Any] = getattr(scheduler, "scale_model_input", lambda z, t: z)

    def run() -> None:
        scheduler.set_timesteps(STEPS)
        z = sample
        for t in scheduler.timesteps:
            scale(z, t)
            z = scheduler.step(output, t, z, **each).prev_sample

    took = seconds_of(run, runs)
    return {
        "sampler": f"  diffusers {name.removesuffix('Scheduler')}", "options": {**options, **each},
        "steps": STEPS, "calls": len(scheduler.timesteps), "seconds": took,
    }  # fmt: skip


COLUMNS = {
    "sampler": lambda row: row["sampler"],
    "steps": lambda row: str(row["steps"]),
    "calls": lambda row: str(row["calls"]),
    "us/step": lambda row: spread([1e6 * s / row["steps"] for s in row["seconds"]], ".0f"),
    "of the network's time": lambda row: (
        f"{median(row['seconds']) / row['calls'] / row['network']:.2%}"
    ),
    "held": lambda row: f"{row['held']:.1f}" if "held" in row else "",
    "most": lambda row: f"{row['most']:.1f}" if "most" in row else "",
}


@torch.no_grad()
def main() -> None:
    """Prints the table, or a JSON line a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=7, help="runs of each sampler")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="samplers whose name holds this")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    answers = Estimate(*torch.randn(2, *SHAPE))
    call, parameters = network(given.runs)
    rows = []
    for name, sampler in fixed_step():
        if given.only in name:
            rows.append(ours(name, sampler, answers, given.runs))
            rows += [theirs(*rival, given.runs) for rival in RIVALS.get(name, [])]
    for row in rows:
        row["network"] = median(call)
    title = (
        f"python benchmarks/samplers.py {' '.join(sys.argv[1:])}\nlatents {SHAPE}, "
        f"{given.threads} thread(s); a call of the network ({parameters / 1e6:.1f} M parameters): "
        f"{spread([1e3 * s for s in call])} ms; median (range) of {given.runs}"
    )
    show(title, rows, COLUMNS, given.json)


if __name__ == "__main__":
    main()
