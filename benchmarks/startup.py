"""How long one waits for a command to begin.

    python benchmarks/startup.py [--runs 5]

Wall seconds of whole processes, files in the page cache. "first training step" is from the start of
`python train.py model=dit conditioning=adaln_zero` to the row of step 1 in its metrics.csv, with
everything prepared (data, latents, captions), on 24 clips of 6 s: reading more data takes longer.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import Row, seconds_of, show, songs, spread

ROOT = Path(__file__).resolve().parents[1]
TRAIN = [sys.executable, str(ROOT / "train.py")]
STEP = ["model=dit", "conditioning=adaln_zero"]


def console() -> list[str]:
    """The console command of this Python's environment."""
    beside = Path(sys.executable).with_name("glissando")
    found = str(beside) if beside.exists() else shutil.which("glissando")
    if found is None:
        sys.exit("there is no glissando command: make venv")
    return [found]


def quietly(command: list[str], folder: Path) -> None:
    """Runs ``command`` in ``folder``; exits with its stderr if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=offline())
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")


def offline() -> dict[str, str]:
    """The environment of a person without a key of Weights & Biases, the logger by default."""
    return {**os.environ, "WANDB_MODE": "offline"}


def first_step(command: list[str], run: Path, folder: Path) -> float:
    """Seconds from the start of a training command to the row of its first step; then it ends."""
    log = run / "metrics.csv"
    began = time.perf_counter()
    with (folder / "output").open("w") as output, subprocess.Popen(
        [*command, f"hydra.run.dir={run}"], cwd=folder, stdout=output, stderr=output, env=offline()
    ) as running:  # fmt: skip
        while not (log.exists() and log.read_text().count("\n") > 1):
            if running.poll() is not None:
                sys.exit(f"no first step:\n{(folder / 'output').read_text()}")
            time.sleep(0.01)
        took = time.perf_counter() - began
        running.kill()
    return took


COLUMNS = {
    "command": lambda row: row["command"],
    "s": lambda row: spread(row["seconds"]),
    "runs": lambda row: str(len(row["seconds"])),
}


def main() -> None:
    """Prints the table, or a JSON line a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5, help="runs of each, after one to warm up")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = {
            "python train.py --cfg job": [*TRAIN, "--cfg", "job"],
            "python train.py --help": [*TRAIN, "--help"],
            "glissando --help": [*console(), "--help"],
        }
        rows: list[Row] = [
            {
                "command": name,
                "seconds": seconds_of(lambda command=command: quietly(command, folder), given.runs),
            }
            for name, command in commands.items()
        ]
        data = songs(folder / "songs", 24)
        train = [*TRAIN, *STEP, *data, "trainer.log_every_n_steps=1"]
        quietly([*train, "trainer.max_steps=1", f"hydra.run.dir={folder / 'first'}"], folder)
        took = [first_step(train, folder / f"run{n}", folder) for n in range(given.runs)]
        rows.append({"command": f"python train.py {' '.join(STEP)}: first step", "seconds": took})
    title = f"python benchmarks/startup.py {' '.join(sys.argv[1:])}\nmedian (range)"
    show(title, rows, COLUMNS, given.json)


if __name__ == "__main__":
    main()
