"""The table of runs that several sweeps have left below one folder.

python -m glissando.study outputs/ablation
"""

from __future__ import annotations

import sys
from pathlib import Path

from glissando.progress import note
from glissando.study.outcome import outcomes
from glissando.study.table import write_table


def main() -> None:
    """Reads the command line as the module's docstring shows it."""
    folders = [Path(argument) for argument in sys.argv[1:]]
    if len(folders) != 1 or not (runs := outcomes(folders[0])):
        sys.exit("usage: python -m glissando.study FOLDER, one with runs that have ended below it")
    write_table(folders[0], runs)
    note(f"{folders[0] / 'table.md'}: {len(runs)} runs")


if __name__ == "__main__":
    main()
