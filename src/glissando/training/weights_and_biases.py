"""A run at Weights & Biases: numbers, sound, pictures, checkpoints, and no harm done by any."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from glissando.checkpoints.files import MODEL
from glissando.checkpoints.sharded import files_of
from glissando.training.safe_io import second_name

log = logging.getLogger(__name__)

LogModel = bool | Literal["all"]


class WeightsAndBiases(WandbLogger):
    """Lightning's logger, for our checkpoints too, and no failure of W&B's is the training's.

    W&B's own process may be killed or its disk full: what fails is said once and passed over, and
    metrics.csv has every number.

    A checkpoint is a version of the artifact ``model-<run id>``: ``model.ckpt``, or the files of a
    sharded one, so that ``ckpt=`` takes the folder it is downloaded to. W&B would copy it into the
    user's home until it is uploaded, offline for good. Here it is a second name of the same bytes
    in the run's own folder: no room is taken while the checkpoint itself is there.

    Args:
        run: of ``wandb.init``.
        log_model: which checkpoints are artifacts: none (False), those that are there at the end of
            training (True), or every one as it is written ("all").
    """

    def __init__(self, run: Any, log_model: LogModel = False) -> None:
        self.folder = Path(run.dir).parent  # of this run of W&B's
        super().__init__(experiment=run, save_dir=str(self.folder))
        self.log_model = log_model
        self._callbacks: dict[int, Checkpoint] = {}  # that have written
        self._logged: dict[str, int] = {}  # path -> its time
        self._versions = 0
        self._failed: set[str] = set()
        with self._harmless("axes"):
            run.define_metric("trainer/global_step")
            run.define_metric("*", step_metric="trainer/global_step", step_sync=True)

    @contextmanager
    def _harmless(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever network, server, disk or W&B's own process did
            if what not in self._failed:
                log.warning("Weights & Biases does not take %s (%s): going on", what, error)
            self._failed.add(what)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        with self._harmless("numbers"):
            super().log_metrics(metrics, step)

    def log_sound(
        self, name: str, wave: Tensor, rate: int, picture: np.ndarray, caption: str, step: int
    ) -> None:
        """One sound (A, L) at ``rate`` Hz with its picture (H, W, 3)."""
        import wandb

        with self._harmless("sound"):
            self.experiment.log({
                f"{name}/audio": wandb.Audio(wave.mT.numpy(), sample_rate=rate, caption=caption),
                f"{name}/picture": wandb.Image(picture, caption=caption),
                "trainer/global_step": step,
            })  # fmt: skip

    def after_save_checkpoint(self, checkpoint_callback: Checkpoint) -> None:
        """Lightning's hook, called by what has written a checkpoint."""
        if self.log_model == "all":
            self._log_checkpoints(checkpoint_callback)
        elif self.log_model:
            self._callbacks[id(checkpoint_callback)] = checkpoint_callback

    def finalize(self, status: str) -> None:
        """The training has ended; the checkpoints of one that failed are in its folder alone."""
        if status == "success":
            # The best first: W&B calls "latest" what was logged last.
            for callback in sorted(self._callbacks.values(), key=_goes_on):
                self._log_checkpoints(callback)

    def close(self) -> None:
        """Ends W&B's run, waiting for uploads as long as its settings allow."""
        with self._harmless("its end"):
            self.experiment.finish()
            if not self.experiment.offline:
                shutil.rmtree(self.folder / "artifacts", ignore_errors=True)

    def _log_checkpoints(self, callback: Checkpoint) -> None:
        best = getattr(callback, "best_model_path", "")
        scores = dict(getattr(callback, "best_k_models", {}))
        scores[getattr(callback, "last_model_path", "")] = None
        for path, score in scores.items():
            with self._harmless("a checkpoint"):
                if path and Path(path).exists():
                    self._log_checkpoint(Path(path), score, ["best"] if path == best else [])

    def _log_checkpoint(self, path: Path, score: Tensor | None, aliases: list[str]) -> None:
        import wandb

        written = path.stat().st_mtime_ns
        if self._logged.get(str(path)) == written:
            return
        self._versions += 1
        kept = self.folder / "artifacts" / str(self._versions) / path.name
        second_name(path, kept)
        metadata: dict[str, Any] = {"original_filename": path.name}
        if score is not None:
            metadata["score"] = float(score)
        artifact = wandb.Artifact(f"model-{self.experiment.id}", type="model", metadata=metadata)
        for file in files_of(kept):
            name = file.name if kept.is_dir() else MODEL
            artifact.add_file(str(file), name, policy="immutable", skip_cache=True)
        self.experiment.log_artifact(artifact, aliases=aliases)
        self._logged[str(path)] = written


def _goes_on(callback: Checkpoint) -> bool:
    return bool(getattr(callback, "last_model_path", ""))
