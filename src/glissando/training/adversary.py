"""Training a generator of waveforms with an adversary: what all such modules share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import torch
from torch import Tensor, nn

from glissando.datasets.base import Batch
from glissando.losses.adversarial import discriminator_loss, feature_matching, generator_loss
from glissando.losses.balancer import Balancer
from glissando.losses.reconstruction import MapReconstruction, Reconstruction
from glissando.metrics.reconstruction import MelError
from glissando.training.demos import ReconstructionDemo
from glissando.training.schedules import Schedule
from glissando.training.sharding import Door, shard

_T = TypeVar("_T")


class AdversarialModule(L.LightningModule):
    """A generator, the submodule ``averaged_name``, and its adversary, by manual optimization.

    A subclass makes a waveform of a batch's, compares the two and hands both to ``update``.

    Args:
        sample_rate: Hz, of the waveforms.
        reconstruction: what was made and the original -> weighted terms by name.
        optimizer, discriminator_optimizer: parameters -> optimizer.
        schedule: step -> factor of the learning rate.
        discriminator: built here but untouched until ``adversarial_start``; None for none at all.
        adversarial, matching: weights of the generator's hinge loss and of feature matching.
        adversarial_start: first step at which the adversary takes part; reconstruction alone
            settles first.
        accumulate: batches per step of the optimizer, which is what ``global_step`` counts; clip:
            largest norm of a gradient (0: none).
            Lightning leaves both to the module under manual optimization.
        balance: decay of the averages by which each term is given its share of the gradient
            (``losses.balancer``); None: terms are weighted and added, as they are.
    """

    averaged_name: str

    def __init__(
        self,
        sample_rate: int,
        reconstruction: Reconstruction | MapReconstruction,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        schedule: Schedule,
        discriminator: nn.Module | None = None,
        discriminator_optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        adversarial: float = 0.1,
        matching: float = 5.0,
        adversarial_start: int = 0,
        accumulate: int = 1,
        clip: float = 1.0,
        balance: float | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.sample_rate = sample_rate
        self.discriminator = discriminator
        self.optimizer, self.discriminator_optimizer = optimizer, discriminator_optimizer
        self.schedule = schedule
        self.adversarial_start, self.accumulate, self.clip = adversarial_start, accumulate, clip
        self.weights = {**reconstruction.weights, "adversarial": adversarial, "matching": matching}
        self.balancer = None if balance is None else Balancer(self.weights, balance)
        # In a tuple so that windows and filters stay out of state_dict and of the optimizer.
        self._frozen = (reconstruction, MelError(sample_rate))
        self._show: tuple[Tensor, Tensor] | None = None
        self._door: tuple[Door, ...] = ()  # in a tuple: its weights have a name already

    @property
    def averaged(self) -> nn.Module:
        """The generator, which is what the EMA callback averages."""
        return self.get_submodule(self.averaged_name)

    def seconds(self, batch: Batch) -> float:
        """Length in seconds of a row of ``batch``."""
        return waveform(batch).shape[-1] / self.sample_rate

    def demo(self, folder: Path, every_n_steps: int, **_: Any) -> L.Callback:
        """The callback that shows what has been learned so far."""
        return ReconstructionDemo(folder, every_n_steps)

    @property
    def shown(self) -> tuple[Tensor, Tensor] | None:
        """Original and reconstruction (B, A, L) of the first validation batch, to look at."""
        return self._show

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        optimizers = [self.optimizer(self.averaged.parameters())]
        if self.discriminator is not None:
            make = self.discriminator_optimizer or self.optimizer
            optimizers.append(make(self.discriminator.parameters()))
        return optimizers

    def configure_model(self) -> None:
        if self.device_mesh is not None:
            self._door = (Door({"generator": self.averaged}),)
            for player in (*self._door, self.discriminator):
                if player is not None:
                    shard(player, self.device_mesh["data_parallel"])

    def whole(self, step: Callable[[], _T]) -> _T:
        """``step()``, in which alone the generator's weights may be used; it returns tensors, in
        plain containers, for that is where the way back begins.
        """
        return self._door[0](step) if self._door else step()

    def on_fit_start(self) -> None:
        for module in self._frozen:
            module.to(self.device)

    # ---- training -------------------------------------------------------------------------

    def update(
        self,
        wave: Tensor,
        made: Tensor,
        terms: dict[str, Tensor],
        batch_idx: int,
        penalties: Tensor | float = 0.0,
        logged: dict[str, Tensor] | None = None,
    ) -> None:
        """One step of both players, or its part in an accumulation; logs what it cost.

        Args:
            wave, made: the original and what the generator made, as ``reconstruction`` and the
                adversary take them.
            terms: how far they are apart, weighted, by name.
            penalties: what else the generator's loss has, which ``made`` does not depend on.
            logged: more to log, by name.
        """
        logged = {**terms, **(logged or {})}
        discriminator = self.discriminator
        if discriminator is not None and self.global_step >= self.adversarial_start:
            logged["discriminator"] = self._train_discriminator(wave, made.detach(), batch_idx)
            # The generator's pass sends no gradient into the discriminator's weights.
            discriminator.requires_grad_(False)
            with torch.no_grad():
                real = discriminator(wave)
            fake = discriminator(made)
            logged["adversarial"] = generator_loss(fake)
            logged["matching"] = feature_matching(real, fake)
            for name in ("adversarial", "matching"):
                if self.weights[name]:
                    terms = {**terms, name: self.weights[name] * logged[name]}
            discriminator.requires_grad_(True)

        if self.balancer is None:
            loss = torch.stack(list(terms.values())).sum() + penalties
        else:
            loss = self.balancer(terms, self.weights, made, self._mean) + penalties
        self._step(0, loss, self.averaged, batch_idx)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(wave))
        self.log_dict(
            {f"train/{name}": value.detach() for name, value in logged.items()},
            batch_size=len(wave),
        )

    def _mean(self, values: Tensor) -> Tensor:
        """Over processes."""
        mean = self.trainer.strategy.reduce(values, reduce_op="mean")
        assert isinstance(mean, Tensor)
        return mean

    def _train_discriminator(self, real: Tensor, fake: Tensor, batch_idx: int) -> Tensor:
        """One step of the discriminator on detached audio; returns its loss."""
        assert self.discriminator is not None
        loss = discriminator_loss(self.discriminator(real), self.discriminator(fake))
        self._step(1, loss, self.discriminator, batch_idx)
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
        self._show = None

    def compare(
        self, wave: Tensor, made: Tensor, batch_idx: int, learned: Sequence[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """``val/loss`` (the terms' sum) and the distances; the first batch is kept to be shown.

        Args:
            wave, made: (B, A, L), the original and what the generator made.
            learned: what was made and the original as ``reconstruction`` takes them, where that
                is not the waveforms.
        """
        for module in self._frozen:
            module.to(self.device)
        reconstruction, mel_error = self._frozen
        terms = reconstruction(*(learned or (made, wave)))
        values = {"val/loss": torch.stack(list(terms.values())).sum()}
        if "stft" in terms:
            values["val/stft"] = terms["stft"] / reconstruction.weights["stft"]
        values["val/mel"] = mel_error(made, wave).mean()
        if batch_idx == 0:
            self._show = (wave, made)
        return values

    def log_validation(self, values: dict[str, Tensor], batch: Batch) -> None:
        """What a batch of the validation gave, averaged over batches and processes."""
        self.log_dict(values, batch_size=len(batch), sync_dist=True, prog_bar=True)


def waveform(batch: Batch) -> Tensor:
    """(B, A, L) of a batch of audio."""
    if batch.waveform is None:
        raise TypeError("this module trains on waveforms, this batch holds latents")
    return batch.waveform
