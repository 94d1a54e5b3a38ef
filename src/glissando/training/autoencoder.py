"""Training an autoencoder: reconstruction, what its bottleneck asks for, and later an adversary."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from glissando.datasets.base import Batch
from glissando.losses.reconstruction import MapReconstruction, Reconstruction
from glissando.metrics.codebooks import counts, kilobits, perplexity
from glissando.metrics.reconstruction import si_sdr, snr
from glissando.networks.bottlenecks.base import Coded
from glissando.representations.autoencoder import Autoencoder
from glissando.representations.base import sums
from glissando.training.adversary import AdversarialModule, waveform
from glissando.training.schedules import Schedule


class AutoencoderModule(AdversarialModule):
    """VAE-GAN training, on waveforms or on the maps that ``representation.inner`` makes of them.

    Losses and adversary compare what the network codes; validation listens to the audio, through
    the vocoder where there is one.

    Args:
        representation: what is trained.
        reconstruction: what the network coded and the original (waveforms (B, A, L) or maps
            (B, A, F, T)) -> weighted terms by name.
        kl: weight of the KL divergence (nats, summed over channels).
        commitment, codebook: weights of a quantizer's losses.
        optimizer, schedule, options: as ``AdversarialModule`` takes them.
    """

    averaged_name = "representation.network"
    begins_with = (averaged_name, "representation.inner.latent_")  # what ``init=`` takes

    def __init__(
        self,
        representation: Autoencoder,
        reconstruction: Reconstruction | MapReconstruction,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        schedule: Schedule,
        kl: float = 1e-4,
        commitment: float = 0.25,
        codebook: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(representation.sample_rate, reconstruction, optimizer, schedule, **options)
        self.representation = representation
        self.penalties = {"kl": kl, "commitment": commitment, "codebook": codebook}
        self._sums: list[Tensor] = []
        self._used: list[Tensor] = []

    def warm_start(self, waves: Iterable[Tensor]) -> None:
        """Sets in closed form what data can set; called before a fresh run only."""
        self.representation.warm_start(waves)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        representation, network = self.representation, self.representation.network
        x = representation.map_of(waveform(batch))

        def reconstruct() -> tuple[Tensor, dict[str, Tensor]]:
            coded = network.encode_map(x)
            decoded = network.decode_map(coded.sample(), *x.shape[2:]).float()
            return decoded, coded.penalties()

        decoded, penalties = self.whole(reconstruct)
        real, made = (representation.inner.compared(each) for each in (x, decoded))
        terms = self._frozen[0](made, real)
        self.update(real, made, terms, batch_idx, self._weighted(penalties), penalties)

    def _weighted(self, penalties: dict[str, Tensor]) -> Tensor:
        weighted = [self.penalties[name] * each for name, each in penalties.items()]
        return torch.stack(weighted).sum() if weighted else torch.zeros((), device=self.device)

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._sums, self._used = [], []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        wave, representation = waveform(batch), self.representation
        network, x = representation.network, representation.map_of(wave)

        def reconstruct() -> tuple[Coded, dict[str, Tensor], Tensor]:
            coded = network.encode_map(x)
            settled = network.bottleneck.settle(coded.mean)
            return coded, coded.penalties(), network.decode_map(settled, *x.shape[2:]).float()

        coded, penalties, decoded = self.whole(reconstruct)
        heard = representation.wave_of(decoded, wave.shape[-1])
        values = self.compare(
            wave, heard, batch_idx,
            learned=[representation.inner.compared(each) for each in (decoded, x)],
        )  # fmt: skip
        values["val/loss"] = values["val/loss"] + self._weighted(penalties)
        values["val/si_sdr"] = si_sdr(heard, wave).mean()
        values["val/snr"] = snr(heard, wave).mean()
        self.log_validation(values | {f"val/{name}": p for name, p in penalties.items()}, batch)
        # The bottleneck's own spread belongs to the variance that diffusion would see if sampled;
        # cached latents are means, so the statistics are of means.
        self._sums.append(sums(coded.mean))
        if coded.codes is not None:
            self._used.append(counts(coded.codes, representation.network.bottleneck.books))

    def on_validation_epoch_end(self) -> None:
        if not self._sums:
            return
        representation = self.representation
        representation.measure(*self._total(self._sums).split(representation.channels))
        if self._used:
            used = perplexity(self._total(self._used))
            rate = representation.sample_rate / representation.hop * representation.freqs
            self.log_dict({
                "val/perplexity": used.mean(), "val/perplexity_least": used.min(),
                "val/kbit_s": kilobits(representation.network.bottleneck.books, rate),
            })  # fmt: skip

    def _total(self, parts: list[Tensor]) -> Tensor:
        """The sum over all batches and processes."""
        total = self.trainer.strategy.reduce(torch.stack(parts).sum(0), reduce_op="sum")
        assert isinstance(total, Tensor)
        return total
