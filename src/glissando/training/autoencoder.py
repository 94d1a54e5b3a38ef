"""Training a raw-audio VAE: reconstruction, KL, and later an adversary."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from glissando.datasets.base import Batch
from glissando.losses.reconstruction import Reconstruction
from glissando.metrics.reconstruction import si_sdr, snr
from glissando.representations.autoencoder import Autoencoder
from glissando.training.adversary import AdversarialModule, waveform
from glissando.training.schedules import Schedule


class AutoencoderModule(AdversarialModule):
    """VAE-GAN training.

    Args:
        representation: what is trained.
        kl: weight of the KL divergence (nats, summed over channels).
        reconstruction, optimizer, schedule, options: as ``AdversarialModule`` takes them.
    """

    averaged_name = "representation.network"

    def __init__(
        self,
        representation: Autoencoder,
        reconstruction: Reconstruction,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        schedule: Schedule,
        kl: float = 1e-4,
        **options: Any,
    ) -> None:
        super().__init__(representation.sample_rate, reconstruction, optimizer, schedule, **options)
        self.representation = representation
        self.kl = kl
        self._sums: list[Tensor] = []

    def warm_start(self, waves: Iterable[Tensor]) -> None:
        """Lets the network set in closed form what it can; called before a fresh run only."""
        self.representation.network.warm_start(waves)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        network, (reconstruction, _) = self.representation.network, self._frozen
        wave = waveform(batch)
        posterior = network.encode(wave)
        decoded = network.decode(posterior.sample(), wave.shape[-1]).float()
        terms = reconstruction(decoded, wave)
        divergence = posterior.kl()
        loss = torch.stack(list(terms.values())).sum() + self.kl * divergence
        self.update(wave, decoded, loss, {**terms, "kl": divergence}, batch_idx)

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._sums = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        wave = waveform(batch)
        posterior = self.representation.network.encode(wave)
        z = posterior.mean
        decoded = self.representation.network.decode(z, wave.shape[-1]).float()
        values = self.compare(wave, decoded, batch_idx)
        values["val/loss"] = values["val/loss"] + self.kl * posterior.kl()
        values["val/si_sdr"] = si_sdr(decoded, wave).mean()
        values["val/snr"] = snr(decoded, wave).mean()
        values["val/kl"] = posterior.kl()
        self.log_validation(values, batch)
        # The posterior's own spread belongs to the variance that diffusion would see if sampled;
        # cached latents are means, so the statistics are of means.
        flat = z.double().transpose(0, 1).flatten(1)
        count = flat.new_full((1,), flat.shape[1])
        self._sums.append(torch.cat([flat.sum(1), flat.square().sum(1), count]))

    def on_validation_epoch_end(self) -> None:
        if not self._sums:
            return
        sums = torch.stack(self._sums).sum(0)
        sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
        assert isinstance(sums, Tensor)
        channels = self.representation.channels
        self.representation.measure(sums[:channels], sums[channels:-1], sums[-1])
