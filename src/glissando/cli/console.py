"""The console command ``glissando <command> [key=value …]``."""

from __future__ import annotations

import sys
from typing import NamedTuple

from glissando.cli.main import run
from glissando.cli.nearest import did_you_mean


class Command(NamedTuple):
    """A command: the yaml it composes, the function it calls (imported late), one line of help."""

    config: str
    function: str
    about: str


COMMANDS = {
    "check": Command("check", "glissando.cli.survey:survey", "look over a folder or shards"),
    "prepare": Command("prepare", "glissando.cli.prepare:prepare", "write a dataset's shards"),
    "encode": Command("encode", "glissando.cli.encode:encode", "cache a dataset's latents"),
    "plan": Command("plan", "glissando.study.plan:plan", "memory and time of a training run"),
    "train": Command("train", "glissando.training.fit:train", "train any model (= train.py)"),
    "represent": Command(
        "represent", "glissando.study.represent:represent", "compare representations' round trips"
    ),
    "sample": Command("sample", "glissando.cli.sample:sample", "make music (= sample.py)"),
}


def main() -> None:
    """Entry point. Exits with 2 on an unknown command, else as `run` does."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(_overview() + "\n")
        return
    if arguments[0] == "--version":
        from glissando import __version__

        sys.stdout.write(f"glissando {__version__}\n")
        return
    name = arguments[0]
    command = COMMANDS.get(name)
    if command is None:
        close = did_you_mean(name, COMMANDS)
        sys.stderr.write(f"error: unknown command {name}{close} (glissando --help lists them)\n")
        sys.exit(2)
    sys.argv = [sys.argv[0], *arguments[1:]]
    run(name, command.config, command.function)


def _overview() -> str:
    lines = [f"  {name:<10} {command.about}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: glissando <command> [key=value …]",
            "",
            "commands:",
            *lines,
            "",
            "glissando <command> --help shows the keys and groups of one of them.",
        ]
    )
