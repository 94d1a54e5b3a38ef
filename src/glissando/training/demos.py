"""What a run sounds like so far: audio and pictures in its folder and in all loggers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from glissando.audio import write_wav
from glissando.examples import EXAMPLES
from glissando.gallery import write
from glissando.gallery.pictures import figure, pair_figure, pair_png
from glissando.training.sharding import Sharded
from glissando.training.weights_and_biases import WeightsAndBiases


class Demo(L.Callback, ABC):
    """Shows something every ``every_n_steps`` steps, after the validation that falls there."""

    def __init__(self, folder: Path, every_n_steps: int) -> None:
        self.folder, self.every = folder, every_n_steps
        self._shown = 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        due = trainer.global_step // self.every > self._shown // self.every
        last = trainer.global_step >= trainer.max_steps > 0
        # Of sharded weights each process holds a part: all of them must take part.
        here = trainer.is_global_zero or isinstance(trainer.strategy, Sharded)
        if here and not trainer.sanity_checking and (due or last):
            self._shown = trainer.global_step
            self.show(trainer, pl_module, self.folder / f"step-{trainer.global_step:07d}")

    @abstractmethod
    def show(self, trainer: L.Trainer, pl_module: Any, folder: Path) -> None:
        """Writes and logs it, in the first process; ``folder`` is this step's own."""

    def log_audio(
        self, trainer: L.Trainer, name: str, wave: Tensor, rate: int, picture: np.ndarray,
        caption: str,
    ) -> None:  # fmt: skip
        """One sound (A, L) with its picture (H, W, 3) to every logger that can take it."""
        step = trainer.global_step
        for logger in trainer.loggers:
            if isinstance(logger, WeightsAndBiases):
                logger.log_sound(name, wave, rate, picture, caption, step)
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_audio(f"{name}/audio", wave.mean(0), step, rate)
                logger.experiment.add_image(f"{name}/picture", picture, step, dataformats="HWC")


class ReconstructionDemo(Demo):
    """Originals beside what the autoencoder makes of them."""

    def __init__(self, folder: Path, every_n_steps: int, clips: int = 4) -> None:
        super().__init__(folder, every_n_steps)
        self.clips = clips

    def show(self, trainer: L.Trainer, pl_module: Any, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        rate = pl_module.sample_rate
        for number, (original, decoded) in enumerate(self._pairs(pl_module)):
            write_wav(folder / f"{number:03d}-original.wav", original, rate)
            write_wav(folder / f"{number:03d}-decoded.wav", decoded, rate)
            title = f"step {trainer.global_step}"
            pair_png(original, decoded, rate, folder / f"{number:03d}.png", title)
            picture = pair_figure(original, decoded, rate, title)
            self.log_audio(trainer, f"reconstruction/{number}", decoded, rate, picture, title)

    def _pairs(self, pl_module: Any) -> Iterator[tuple[Tensor, Tensor]]:
        if pl_module.shown is not None:
            original, decoded = pl_module.shown
            yield from zip(original[: self.clips].cpu(), decoded[: self.clips].cpu(), strict=True)


class SampleDemo(Demo):
    """Clips sampled from the model: the same prompts and seeds every time."""

    def __init__(
        self, folder: Path, every_n_steps: int, prompts: list[str] | None = None, seconds: float = 6
    ) -> None:
        super().__init__(folder, every_n_steps)
        self.prompts, self.seconds = prompts, seconds

    def show(self, trainer: L.Trainer, pl_module: Any, folder: Path) -> None:
        was_training = pl_module.training
        pl_module.eval()
        clips = pl_module.trained(
            lambda: pl_module.generator.generate(self.prompts or EXAMPLES, seconds=self.seconds)
        )
        pl_module.train(was_training)
        if not trainer.is_global_zero:
            return
        write(folder, clips, title=f"step {trainer.global_step}")
        for number, clip in enumerate(clips):
            picture = figure(clip.wave, clip.sample_rate, clip.prompt)
            self.log_audio(
                trainer, f"demo/{number}", clip.wave, clip.sample_rate, picture, clip.prompt
            )
