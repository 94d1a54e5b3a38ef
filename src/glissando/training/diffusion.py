"""Training a denoiser on cached latents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from glissando.conditioners import Conditioners
from glissando.datasets.base import Batch
from glissando.diffusion.denoiser import Denoiser
from glissando.diffusion.levels import Levels
from glissando.generation import Generator
from glissando.representations.base import Representation
from glissando.training.demos import SampleDemo
from glissando.training.mixup import BeatMixup
from glissando.training.schedules import Schedule
from glissando.training.sharding import Door, shard

VALIDATION_LEVELS = 8  # strata of t that every validation clip is looked at in turn


class DiffusionModule(L.LightningModule):
    """Denoising training: z = alpha x_0 + sigma eps, one drawn level a clip, weighted loss.

    Args:
        representation: frozen; normalizes the cached latents, and decodes the demos.
        conditioners, denoiser: what is trained.
        levels: the law of t.
        optimizer: parameters -> optimizer; schedule: step -> factor of the learning rate.
        dropout: probability that a clip trains without its condition (all of it at once).
        dropout_alone: by conditioner, probability that a clip loses what that one makes, besides.
        mixup: of clips with a beat in common; none by default.
        window, seen: what a ``Generator`` wants to know of the data.
    """

    averaged_name = "trained"

    def __init__(
        self,
        representation: Representation,
        conditioners: Conditioners,
        denoiser: Denoiser,
        levels: Levels,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        schedule: Schedule,
        dropout: float = 0.1,
        dropout_alone: Mapping[str, float] | None = None,
        mixup: BeatMixup | None = None,
        window: float | None = None,
        seen: dict[str, list[float]] | None = None,
    ) -> None:
        super().__init__()
        self.representation = representation.requires_grad_(False)
        self.trained = Door({"conditioners": conditioners, "denoiser": denoiser})
        self.levels, self.optimizer, self.schedule = levels, optimizer, schedule
        self.dropout, self.dropout_alone = dropout, dropout_alone
        self.mixup = mixup or BeatMixup()
        self.window, self.seen = window, seen or {}

    @property
    def conditioners(self) -> Conditioners:
        return self.trained["conditioners"]  # type: ignore[return-value]

    @property
    def denoiser(self) -> Denoiser:
        return self.trained["denoiser"]  # type: ignore[return-value]

    @property
    def averaged(self) -> nn.Module:
        """What the EMA callback averages."""
        return self.trained

    @property
    def generator(self) -> Generator:
        """This very model, ready to sample."""
        return Generator(
            self.representation, self.conditioners, self.denoiser, self.window, self.seen
        )

    def seconds(self, batch: Batch) -> float:
        """Length in seconds of a row of ``batch``."""
        frames = _latent(batch).shape[-1]
        return frames * self.representation.hop / self.representation.sample_rate

    def demo(self, folder: Path, every_n_steps: int, **options: Any) -> L.Callback:
        """The callback that plays what has been learned so far."""
        return SampleDemo(folder, every_n_steps, **options)

    def configure_optimizers(self) -> dict[str, Any]:
        weights = [p for p in self.trained.parameters() if p.requires_grad]
        optimizer = self.optimizer(weights)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.schedule)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_model(self) -> None:
        if self.device_mesh is not None:
            shard(self.trained, self.device_mesh["data_parallel"])

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """As Lightning, which however refuses fused optimizers under any mixed precision, for the
        sake of a gradient scaler, which bfloat16 has none of; ``early.look_over`` refuses float16.
        """
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        if gradient_clip_val and gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(weights, gradient_clip_val)
        elif gradient_clip_val:
            nn.utils.clip_grad_norm_(weights, gradient_clip_val)

    def on_fit_start(self) -> None:
        self.representation.eval()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.trained(lambda: self._training_loss(batch))
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch))
        return loss

    def _training_loss(self, batch: Batch) -> Tensor:
        x_0 = self.representation.normalize(_latent(batch))
        condition = self.conditioners(batch.attributes, frames=x_0.shape[-1]).move(x_0.device)
        rate = self.representation.sample_rate / self.representation.hop
        x_0 = self.mixup(x_0, batch.attributes, rate, batch.mask)
        condition = self.conditioners.dropout(condition, self.dropout, groups=self.dropout_alone)
        length = _lengths(batch)
        t = self.levels.draw(self.denoiser.path, len(x_0), device=x_0.device, length=length)
        return self.denoiser.loss(x_0, torch.randn_like(x_0), t, condition, batch.mask).mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The loss on noise and levels that are the same at every validation of every run."""
        loss = self.trained(lambda: self._validation_loss(batch, batch_idx))
        self.log("val/loss", loss, batch_size=len(batch), sync_dist=True, prog_bar=True)

    def _validation_loss(self, batch: Batch, batch_idx: int) -> Tensor:
        x_0 = self.representation.normalize(_latent(batch))
        condition = self.conditioners(batch.attributes, frames=x_0.shape[-1]).move(x_0.device)
        chance = torch.Generator().manual_seed(batch_idx)
        eps = torch.randn(x_0.shape, generator=chance).to(x_0)
        length = _lengths(batch)
        grid = self.levels.grid(self.denoiser.path, VALIDATION_LEVELS, _some(length))
        rows = (torch.arange(len(x_0)) + batch_idx * len(x_0)) % VALIDATION_LEVELS
        t = grid[rows].to(x_0.device)
        return self.denoiser.loss(x_0, eps, t, condition, batch.mask).mean()


def _latent(batch: Batch) -> Tensor:
    if batch.latent is None:
        raise TypeError("diffusion trains on latents, this batch holds waveforms")
    return batch.latent


def _lengths(batch: Batch) -> Tensor:
    """Real latent frames (B,) of each clip."""
    latent = _latent(batch)
    if batch.mask is None:
        return torch.full((len(latent),), latent.shape[-1], device=latent.device)
    return batch.mask.sum(1)


def _some(length: Tensor) -> Tensor:
    """The batch's longest length for each level of the validation grid."""
    return length.max().cpu().expand(VALIDATION_LEVELS)
