"""Text to sound: how long a clip takes, and what of it is the autoencoder.

    python benchmarks/sampling.py [--ckpt demo] [--seconds 6] [--runs 5]

One clip at a time, captions that are new each time (the text encoder runs), all from the caption to
the waveform on the host. A row is a process of its own, so its peak memory belongs to it. An
evaluation is a call of the denoiser; with guidance the network then works on two rows at once.
Autoencoders are timed apart, with random weights, which changes no speed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch
from measure import Row, composed, fresh, peak_memory, seconds_of, show, spread

SAMPLERS = [("euler", 50), ("dpmpp_2m", 25), ("heun", 25)]
GUIDANCES = {"4": ["guidance=cfg", "guidance.scale=4"], "none": ["guidance=none"]}
AUTOENCODERS = ["vae", "vae_oobleck"]


@torch.no_grad()
def clips(ckpt: str, seconds: float, runs: int, name: str, steps: int, guidance: str) -> Row:
    """Whole clips with one sampler, in this process; embeddings are filed in the working folder."""
    from glissando import load
    from glissando.checkpoints.instantiate import instantiate

    model = load(ckpt)
    cfg = composed("sample", f"sampler={name}", f"sampler.steps={steps}", *GUIDANCES[guidance])
    sampler, guide = instantiate(cfg.sampler), instantiate(cfg.guidance)
    numbers = iter(range(runs + 1))

    def clip() -> None:
        prompt = f"a slow air on the flute, number {next(numbers)}"
        model.generate([prompt], seconds, 0, sampler, guide)

    took = seconds_of(clip, runs)
    representation, length = model.representation, round(seconds * model.representation.sample_rate)
    shape = (1, representation.channels, representation.freqs, representation.frames(length))
    z = torch.randn(shape, device=model.device)
    return {
        "sampler": f"{name} {steps}", "guidance": guidance, "clip_seconds": seconds,
        "seconds": took, "decode": seconds_of(lambda: representation.decode(z, length), runs),
        "evaluations": sampler.evaluations, "rows": 1 if guidance == "none" else 2,
        "mib": peak_memory(),
        "threads": torch.get_num_threads(), "device": model.device.type,
        "parameters": sum(p.numel() for p in model.denoiser.parameters()),
    }  # fmt: skip


@torch.no_grad()
def codec(name: str, seconds: float, runs: int) -> Row:
    """Encoding and decoding of one clip by an autoencoder of conf/model/, weights at random."""
    from glissando.build import plain, rebuilt

    device = "cuda" if torch.cuda.is_available() else "cpu"
    cfg = composed("train", f"model={name}", "name=benchmark")
    network = {**plain(cfg.model), "audio_channels": cfg.data.channels, "_partial_": False}
    target = "glissando.representations.autoencoder.Autoencoder"
    model = rebuilt({"_target_": target, "network": network, "sample_rate": cfg.data.sample_rate})
    model.eval().to(device)
    length = round(seconds * model.sample_rate)
    wave = 0.1 * torch.randn(1, model.audio_channels, length, device=device)
    z = model.encode(wave)
    return {
        "autoencoder": name, "clip_seconds": seconds, "latent": list(z.shape),
        "parameters": sum(p.numel() for p in model.parameters()),
        "encode": seconds_of(lambda: model.encode(wave), runs),
        "decode": seconds_of(lambda: model.decode(z, length), runs), "mib": peak_memory(),
    }  # fmt: skip


def speed(row: Row, part: str) -> str:
    """Seconds of ``part``, and how much faster than the clip plays."""
    return f"{1e3 * median(row[part]):.3g} ms ({row['clip_seconds'] / median(row[part]):.0f}x)"


CLIPS = {
    "sampler": lambda row: row["sampler"],
    "guidance": lambda row: row["guidance"],
    "s/clip": lambda row: spread(row["seconds"]),
    "x real time": lambda row: f"{row['clip_seconds'] / median(row['seconds']):.1f}",
    "evaluations x rows": lambda row: f"{row['evaluations']} x {row['rows']}",
    "evaluations/s": lambda row: (
        f"{row['evaluations'] / (median(row['seconds']) - median(row['decode'])):.0f}"
    ),
    "decode (x real time)": lambda row: speed(row, "decode"),
    "peak MiB": lambda row: f"{row['mib']:.0f}",
}
CODECS = {
    "autoencoder": lambda row: row["autoencoder"],
    "parameters": lambda row: f"{row['parameters'] / 1e6:.1f} M",
    "latent": lambda row: " x ".join(map(str, row["latent"])),
    "encode (x real time)": lambda row: speed(row, "encode"),
    "decode (x real time)": lambda row: speed(row, "decode"),
    "peak MiB": lambda row: f"{row['mib']:.0f}",
}


def main() -> None:
    """Prints two tables, or a JSON line a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ckpt", default="demo", help="a shipped model, a run folder or a file")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--runs", type=int, default=5, help="clips a row, after one to warm up")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of tables")
    parser.add_argument("--row", nargs="+", help=argparse.SUPPRESS)  # in a process of its own
    given = parser.parse_args()
    if given.row:
        name, *rest = given.row
        row = (
            clips(given.ckpt, given.seconds, given.runs, name, int(rest[0]), rest[1])
            if rest
            else codec(name, given.seconds, given.runs)
        )
        print(json.dumps(row))
        return
    ckpt = str(Path(given.ckpt).resolve()) if Path(given.ckpt).exists() else given.ckpt
    common = ["--ckpt", ckpt, "--seconds", str(given.seconds), "--runs", str(given.runs), "--row"]
    with tempfile.TemporaryDirectory() as folder:
        played = [
            fresh(__file__, *common, name, str(steps), guidance, folder=Path(folder))
            for name, steps in SAMPLERS
            for guidance in GUIDANCES
        ]
        coded = [fresh(__file__, *common, name, folder=Path(folder)) for name in AUTOENCODERS]
    first = played[0]
    title = (
        f"python benchmarks/sampling.py {' '.join(sys.argv[1:])}\n{first['threads']} threads, "
        f"{first['device']}, {first['parameters'] / 1e6:.1f} M parameters, clips of "
        f"{given.seconds:g} s, one at a time; s/clip: median of {given.runs} (range)"
    )
    show(title, played, CLIPS, given.json)
    show("autoencoders of random weights, one clip", coded, CODECS, given.json)


if __name__ == "__main__":
    main()
