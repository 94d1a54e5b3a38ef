"""Makes a training checkpoint a shipped model under data/pretrained/.

    python scripts/ship.py outputs/2026-01-31/12-00-00-vae vae
    python scripts/ship.py outputs/2026-01-31/13-00-00-dit demo --autoencoder vae
    python scripts/ship.py outputs/… vae_hifi --eight-bits representation.network.decoder.

Large tensors become float16, the EMA weights are taken, the optimizer and the adversary are left
behind. The model card (README.md in the same folder) is written by hand from what was measured.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from glissando.build import trained
from glissando.checkpoints.files import locate, read, write
from glissando.cli.conf import pretrained_dir


def main() -> None:
    """Writes the folder and prints its size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="run folder or file")
    parser.add_argument("name", help="folder under data/pretrained/")
    parser.add_argument("--autoencoder", help="the shipped autoencoder that it leans on")
    parser.add_argument(
        "--eight-bits", nargs="*", default=[], metavar="PREFIX", help="names of weights to store so"
    )
    given = parser.parse_args()
    stored = read(locate(given.checkpoint))
    # Where it was resumed from is a path of the machine that made it.
    config = {**stored.facts["config"], "ckpt": None, "init": None}
    stored = replace(stored, facts={**stored.facts, "config": config})
    if given.autoencoder:
        shared = trained(given.autoencoder)
        rest = {k: v for k, v in stored.weights.items() if not k.startswith("representation.")}
        lean = {"name": given.autoencoder, "fingerprint": shared.fingerprint()}
        stored = replace(stored, facts={**stored.facts, "autoencoder": lean}, weights=rest)
    folder = write(pretrained_dir() / given.name, stored, eight_bits=given.eight_bits)
    size = sum(path.stat().st_size for path in Path(folder).iterdir() if path.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
