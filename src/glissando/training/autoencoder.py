"""Training a raw-audio VAE: reconstruction, KL, and later an adversary."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from glissando.datasets.base import Batch
from glissando.losses.adversarial import discriminator_loss, feature_matching, generator_loss
from glissando.losses.reconstruction import Reconstruction
from glissando.metrics.reconstruction import MelError, si_sdr, snr
from glissando.representations.autoencoder import Autoencoder
from glissando.training.demos import ReconstructionDemo
from glissando.training.schedules import Schedule


class AutoencoderModule(L.LightningModule):
    """VAE-GAN training by manual optimization.

    Args:
        representation: what is trained.
        reconstruction: weighted terms comparing the decoded waveform with the original.
        discriminator: built here but untouched until ``adversarial_start``; None for none at all.
        kl: weight of the KL divergence (nats, summed over channels).
        adversarial, matching: weights of the generator's hinge loss and of feature matching.
        adversarial_start: first step at which the adversary takes part; reconstruction alone
            settles first.
        optimizer, discriminator_optimizer: parameters -> optimizer.
        schedule: step -> factor of the learning rate.
        accumulate: batches per step of the optimizer, which is what ``global_step`` counts; clip:
            largest norm of a gradient (0: none).
            Lightning leaves both to the module under manual optimization.
    """

    def __init__(
        self,
        representation: Autoencoder,
        reconstruction: Reconstruction,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        schedule: Schedule,
        discriminator: nn.Module | None = None,
        discriminator_optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        kl: float = 1e-4,
        adversarial: float = 0.1,
        matching: float = 5.0,
        adversarial_start: int = 0,
        accumulate: int = 1,
        clip: float = 1.0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.representation = representation
        self.discriminator = discriminator
        self.optimizer, self.discriminator_optimizer = optimizer, discriminator_optimizer
        self.schedule = schedule
        self.kl, self.adversarial, self.matching = kl, adversarial, matching
        self.adversarial_start, self.accumulate, self.clip = adversarial_start, accumulate, clip
        # In a tuple so that windows and filters stay out of state_dict and of the optimizer.
        self._frozen = (reconstruction, MelError(representation.sample_rate))
        self._sums: list[Tensor] = []
        self._show: tuple[Tensor, Tensor] | None = None

    averaged_name = "representation.network"

    @property
    def averaged(self) -> nn.Module:
        """What the EMA callback averages."""
        return self.representation.network

    def seconds(self, batch: Batch) -> float:
        """Length in seconds of a row of ``batch``."""
        return _waveform(batch).shape[-1] / self.representation.sample_rate

    def demo(self, folder: Path, every_n_steps: int, **_: Any) -> L.Callback:
        """The callback that shows what has been learned so far."""
        return ReconstructionDemo(folder, every_n_steps)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        optimizers = [self.optimizer(self.representation.network.parameters())]
        if self.discriminator is not None:
            make = self.discriminator_optimizer or self.optimizer
            optimizers.append(make(self.discriminator.parameters()))
        return optimizers

    def on_fit_start(self) -> None:
        for module in self._frozen:
            module.to(self.device)

    def warm_start(self, waves: Iterable[Tensor]) -> None:
        """Lets the network set in closed form what it can; called before a fresh run only."""
        self.representation.network.warm_start(waves)

    # ---- training -------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        network, (reconstruction, _) = self.representation.network, self._frozen
        wave = _waveform(batch)
        posterior = network.encode(wave)
        decoded = network.decode(posterior.sample(), wave.shape[-1]).float()
        terms = reconstruction(decoded, wave)
        divergence = posterior.kl()
        loss = torch.stack(list(terms.values())).sum() + self.kl * divergence
        logged = {**terms, "kl": divergence}

        discriminator = self.discriminator
        if discriminator is not None and self.global_step >= self.adversarial_start:
            logged["discriminator"] = self._train_discriminator(wave, decoded.detach())
            # The generator's pass sends no gradient into the discriminator's weights.
            discriminator.requires_grad_(False)
            with torch.no_grad():
                real = discriminator(wave)
            fake = discriminator(decoded)
            logged["adversarial"] = generator_loss(fake)
            logged["matching"] = feature_matching(real, fake)
            loss = loss + self.adversarial * logged["adversarial"]
            loss = loss + self.matching * logged["matching"]
            discriminator.requires_grad_(True)

        self._step(0, loss, network, batch_idx)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch))
        self.log_dict(
            {f"train/{name}": value.detach() for name, value in logged.items()},
            batch_size=len(batch),
        )

    def _train_discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """One step of the discriminator on detached audio; returns its loss."""
        assert self.discriminator is not None
        loss = discriminator_loss(self.discriminator(real), self.discriminator(fake))
        self._step(1, loss, self.discriminator, self.trainer.fit_loop.batch_idx)
        return loss

    def _step(self, index: int, loss: Tensor, module: nn.Module, batch_idx: int) -> None:
        """Backward, and at the end of an accumulation clip, step and set the next rate."""
        optimizers = self.optimizers()
        optimizer = optimizers[index] if isinstance(optimizers, list) else optimizers
        if index:  # a step is a batch: Lightning would count the adversary's steps as well
            optimizer._on_before_step = optimizer._on_after_step = lambda: None
        self.manual_backward(loss / self.accumulate)
        if (batch_idx + 1) % self.accumulate:
            return
        factor = self.schedule(self.global_step)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor
        if self.clip:
            nn.utils.clip_grad_norm_(module.parameters(), self.clip)
        optimizer.step()
        optimizer.zero_grad()

    # ---- validation -----------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self._sums, self._show = [], None

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        for module in self._frozen:
            module.to(self.device)
        reconstruction, mel_error = self._frozen
        wave = _waveform(batch)
        posterior = self.representation.network.encode(wave)
        z = posterior.mean
        decoded = self.representation.network.decode(z, wave.shape[-1]).float()
        terms = reconstruction(decoded, wave)
        values = {
            "val/loss": torch.stack(list(terms.values())).sum() + self.kl * posterior.kl(),
            "val/stft": terms["stft"] / reconstruction.weights["stft"] if "stft" in terms else None,
            "val/mel": mel_error(decoded, wave).mean(),
            "val/si_sdr": si_sdr(decoded, wave).mean(),
            "val/snr": snr(decoded, wave).mean(),
            "val/kl": posterior.kl(),
        }
        self.log_dict(
            {name: value for name, value in values.items() if value is not None},
            batch_size=len(batch), sync_dist=True, prog_bar=True,
        )  # fmt: skip
        # The posterior's own spread belongs to the variance that diffusion would see if sampled;
        # cached latents are means, so the statistics are of means.
        flat = z.double().transpose(0, 1).flatten(1)
        count = flat.new_full((1,), flat.shape[1])
        self._sums.append(torch.cat([flat.sum(1), flat.square().sum(1), count]))
        if batch_idx == 0:
            self._show = (wave, decoded)

    def on_validation_epoch_end(self) -> None:
        if not self._sums:
            return
        sums = torch.stack(self._sums).sum(0)
        sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
        assert isinstance(sums, Tensor)
        channels = self.representation.channels
        self.representation.measure(sums[:channels], sums[channels:-1], sums[-1])

    @property
    def shown(self) -> tuple[Tensor, Tensor] | None:
        """Original and reconstruction (B, A, L) of the first validation batch, to look at."""
        return self._show


def _waveform(batch: Batch) -> Tensor:
    if batch.waveform is None:
        raise TypeError("an autoencoder trains on waveforms, this batch holds latents")
    return batch.waveform
