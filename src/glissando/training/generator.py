"""Training what makes a waveform out of less than it: vocoders, bandwidth extension, stereo."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from glissando.datasets.base import Batch
from glissando.losses.reconstruction import Reconstruction
from glissando.training.adversary import AdversarialModule, waveform
from glissando.training.schedules import Schedule


class GeneratorModule(AdversarialModule):
    """A generator against an adversary (HiFi-GAN, Vocos, MusicHiFi), on degraded waveforms.

    Args:
        generator: has ``sample_rate`` (Hz), ``network`` (what is trained), ``degrade(wave)``, what
            it is given of a waveform (B, A, L), and ``forward(given, length)``, the waveform again.
        reconstruction, optimizer, schedule, options: as ``AdversarialModule`` takes them.
    """

    averaged_name = "generator.network"

    def __init__(
        self,
        generator: Any,
        reconstruction: Reconstruction,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        schedule: Schedule,
        **options: Any,
    ) -> None:
        super().__init__(generator.sample_rate, reconstruction, optimizer, schedule, **options)
        self.generator = generator

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        reconstruction, _ = self._frozen
        wave = waveform(batch)
        made = self._made(wave)
        self.update(wave, made, reconstruction(made, wave), batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        wave = waveform(batch)
        self.log_validation(self.compare(wave, self._made(wave), batch_idx), batch)

    def _made(self, wave: Tensor) -> Tensor:
        return self.whole(lambda: self.generator(self.generator.degrade(wave), wave.shape[-1]))
