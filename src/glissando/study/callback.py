"""``hydra.callbacks``: after every run of a sweep, the table of all that have ended so far.

After every run and not at the end alone: Hydra gives up after the last one if any has failed, and
Ctrl-C or the end of a machine's time shall leave what there is.
"""

from __future__ import annotations

import gc
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from glissando.cli.failure import explain
from glissando.progress import note

if TYPE_CHECKING:
    from glissando.study.candidates import Candidate

_AFTER = 1000  # a run's place in the table is behind all that need no training


class Table(Callback):
    """Writes what each run came to into its folder, and ``table.md/csv/png`` into the sweep's."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        from glissando.study.outcome import failed, finished, write

        if config.hydra.mode != RunMode.MULTIRUN:
            return
        folder = Path(config.hydra.runtime.output_dir)
        settings = dict(_setting(override) for override in job_return.overrides or ())
        if job_return.status is JobStatus.FAILED:
            outcome = failed(folder, settings, _fault(job_return, folder))
        else:
            outcome = finished(folder, settings)
        write(outcome, folder)
        gc.collect()
        _write_table(config)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Once more: of runs side by side, the last to end may not have seen the one before."""
        _write_table(config)


class Representations(Callback):
    """Measures the round trips of what each run has trained, beside those that need no training.

    Into the sweep's folder, as ``glissando represent`` does.

    Args:
        clips: of the test split. listen: how many of them are written to listen to.
    """

    def __init__(self, clips: int = 96, listen: int = 3) -> None:
        self.clips, self.listen = clips, listen

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        from glissando.study.candidates import shipped

        for place, candidate in enumerate(shipped()):
            self._measure(config, candidate, place)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        from glissando.study.candidates import of_run

        if config.hydra.mode != RunMode.MULTIRUN:
            return
        folder = Path(config.hydra.runtime.output_dir)
        if job_return.status is JobStatus.FAILED:
            _fault(job_return, folder)
        else:
            self._measure(config, of_run(str(folder)), _AFTER + int(config.hydra.job.num))
        gc.collect()

    def _measure(self, config: DictConfig, candidate: Candidate, place: int) -> None:
        from glissando.build import prepared
        from glissando.study.comparison import compare

        folder = Path(config.hydra.sweep.dir)
        compare(candidate, place, config.data, prepared(config), folder, self.clips, self.listen)
        note(f"{folder / 'table.md'}: {candidate.name}")


def _fault(job_return: JobReturn, folder: Path) -> str:
    """What ended a run, also told on the terminal."""
    error = job_return._return_value  # `return_value` would raise it
    fault = explain(error)
    note(f"run {folder.name} failed, the others go on: {fault}")
    # Hydra keeps the error to the end, and with it all that was alive where it happened: of a GPU
    # that was full, nothing would be left for the runs to come.
    traceback.clear_frames(error.__traceback__)
    return fault


def _setting(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key.lstrip("+~"), value


def _write_table(config: DictConfig) -> None:
    from glissando.study.outcome import outcomes
    from glissando.study.table import write_table

    folder = Path(config.hydra.sweep.dir)
    runs = outcomes(folder)
    write_table(folder, runs)
    bad = sum(run.fault is not None for run in runs)
    note(f"{folder / 'table.md'}: {len(runs) - bad} runs" + (f", {bad} failed" if bad else ""))
