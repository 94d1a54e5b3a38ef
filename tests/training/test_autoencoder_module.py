from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn

from glissando.datasets.base import Batch
from glissando.losses.reconstruction import Reconstruction
from glissando.networks.bottlenecks.fsq import FSQ
from glissando.networks.bottlenecks.kl import Posterior
from glissando.networks.discriminators import MultiResolutionSTFTDiscriminator
from glissando.networks.spectral import SpectralAutoencoder
from glissando.representations.autoencoder import Autoencoder
from glissando.training.autoencoder import AutoencoderModule
from glissando.training.schedules import Constant

SGD = partial(torch.optim.SGD, lr=0.1)


def batch(rows: int, seed: int) -> Batch:
    wave = 0.3 * torch.randn(rows, 1, 160, generator=torch.Generator().manual_seed(seed))
    return Batch(wave, None, [{}] * rows, None, [str(row) for row in range(rows)])


def joined(*batches: Batch) -> Batch:
    waves = torch.cat([b.waveform for b in batches if b.waveform is not None])
    return Batch(waves, None, [{}] * len(waves), None, [""] * len(waves))


def module(adversary: bool = False, kind: type = AutoencoderModule, **options: Any) -> Any:
    torch.manual_seed(0)
    network = SpectralAutoencoder(4, 1, 8, 12, 1, 12, 1)
    critic = MultiResolutionSTFTDiscriminator(1, (32,), 4) if adversary else None
    settings: dict[str, Any] = {"optimizer": SGD, "schedule": Constant(), "clip": 0.0, **options}
    wave_alone = Reconstruction(8000, stft=0, mel=0, wave=1)  # a mean over clips: batches add up
    return kind(Autoencoder(network, 8000), wave_alone, discriminator=critic, **settings)


class Given(L.LightningDataModule):
    """These batches in this order, for training and validation."""

    def __init__(self, batches: list[Batch], validates: bool) -> None:
        super().__init__()
        self.batches, self.validates = batches, validates

    def _loader(self) -> Any:
        return torch.utils.data.DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]

    def train_dataloader(self) -> Any:
        return self._loader()

    def val_dataloader(self) -> Any:
        return self._loader() if self.validates else []

    def transfer_batch_to_device(self, batch: Batch, device: Any, dataloader_idx: int) -> Batch:
        return batch.move(device)


def fit(thing: AutoencoderModule, batches: list[Batch], folder: Path, **options: Any) -> L.Trainer:
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        num_sanity_val_steps=0, **options,
    )  # fmt: skip
    trainer.fit(thing, datamodule=Given(batches, "limit_val_batches" in options))
    return trainer


def weights(net: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()]).clone()


def test_a_step_is_counted_once_with_two_optimizers(tmp_path: Path) -> None:
    thing = module(adversary=True)
    before = weights(thing.discriminator), weights(thing.representation)
    assert fit(thing, [batch(2, seed) for seed in range(3)], tmp_path).global_step == 3
    assert not torch.equal(before[0], weights(thing.discriminator))
    assert not torch.equal(before[1], weights(thing.representation))


@pytest.mark.parametrize("start", [0, 2, 5])
def test_the_adversary_takes_part_from_its_start_on(tmp_path: Path, start: int) -> None:
    class Watched(AutoencoderModule):
        steps: list[int]

        def _train_discriminator(self, *waves: Any) -> Any:
            self.steps.append(self.global_step)
            return super()._train_discriminator(*waves)

    thing = module(True, Watched, adversarial_start=start)
    thing.steps = []
    fit(thing, [batch(2, seed) for seed in range(4)], tmp_path)
    assert thing.steps == list(range(start, 4))


def test_neither_side_gets_a_gradient_in_the_others_step(tmp_path: Path) -> None:
    class Watched(AutoencoderModule):
        seen: set[int]

        def _step(self, index: int, *rest: Any) -> None:
            super()._step(index, *rest)
            other = self.representation if index else self.discriminator
            assert other is not None
            assert all(p.grad is None for p in other.parameters()), index
            self.seen.add(index)

    thing = module(True, Watched)
    thing.seen = set()
    fit(thing, [batch(2, seed) for seed in range(3)], tmp_path)
    assert thing.seen == {0, 1}
    assert all(p.requires_grad for p in thing.discriminator.parameters())


def test_accumulation_is_a_larger_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Posterior, "sample", lambda self: self.mean)
    small, large = [batch(2, seed) for seed in range(4)], module()
    parts = module(accumulate=2)
    assert fit(parts, small, tmp_path).global_step == 2
    assert fit(large, [joined(*small[:2]), joined(*small[2:])], tmp_path).global_step == 2
    torch.testing.assert_close(weights(parts), weights(large), atol=1e-6, rtol=1e-5)


def test_accumulation_of_both_players(tmp_path: Path) -> None:
    thing = module(adversary=True, accumulate=2)
    before = weights(thing.discriminator)
    trainer = fit(thing, [batch(2, 0)], tmp_path)
    assert trainer.global_step == 0
    torch.testing.assert_close(before, weights(thing.discriminator), atol=0, rtol=0)
    assert fit(thing, [batch(2, seed) for seed in range(6)], tmp_path).global_step == 3


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    free, clipped = module(kl=10.0), module(kl=10.0, clip=1e-3)
    start = weights(free.representation)
    fit(free, [batch(2, 0)], tmp_path)
    fit(clipped, [batch(2, 0)], tmp_path)
    far, near = weights(free.representation) - start, weights(clipped.representation) - start
    assert far.norm() > 1e-3
    # SGD at 0.1; float32 of weights near 1 limits how exactly the difference is seen.
    assert near.norm().item() == pytest.approx(1e-4, rel=1e-2)
    assert torch.nn.functional.cosine_similarity(far, near, dim=0) > 0.999


def test_the_schedule_scales_the_rate(tmp_path: Path) -> None:
    thing = module(schedule=lambda step: 0.0 if step else 1.0)
    after: list[torch.Tensor] = []

    class Watch(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            after.append(weights(thing))

    fit(thing, [batch(2, seed) for seed in range(3)], tmp_path, callbacks=[Watch()])
    torch.testing.assert_close(after[0], after[2], atol=0, rtol=0)


def test_validation_measures_the_latents(tmp_path: Path) -> None:
    thing = module(optimizer=partial(torch.optim.SGD, lr=0.0))
    batches = [batch(3, seed) for seed in range(4)]
    assert not thing.representation.measured
    fit(thing, batches, tmp_path, limit_val_batches=4)
    representation = thing.representation.eval()
    z = representation.encode(joined(*batches).waveform)
    normal = representation.normalize(z)
    torch.testing.assert_close(normal.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        normal.var((0, 2, 3), correction=0), torch.ones(4), atol=1e-3, rtol=0
    )


def test_validation_tells_what_a_quantizer_uses(tmp_path: Path) -> None:
    """8 values of 3 levels are 4 codes of 9 values, 1000 frames a second."""
    network = SpectralAutoencoder(8, 1, 8, 12, 1, 12, 1, bottleneck=partial(FSQ, levels=(3, 3)))
    wave_alone = Reconstruction(8000, stft=0, mel=0, wave=1)
    thing = AutoencoderModule(Autoencoder(network, 8000), wave_alone, SGD, Constant())
    batches = [batch(3, seed) for seed in range(2)]
    trainer = fit(thing, batches, tmp_path, limit_val_batches=2)
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert values["val/kbit_s"] == pytest.approx(4 * 3.1699, rel=1e-4)
    codes = network.encode(torch.cat([b.waveform for b in batches])).codes  # type: ignore[list-item]
    assert codes is not None
    shares = [codes[:, k].unique(return_counts=True)[1] / codes[:, k].numel() for k in range(4)]
    expected = [float((-share * share.log()).sum().exp()) for share in shares]
    assert values["val/perplexity"] == pytest.approx(sum(expected) / 4, rel=1e-4)
    assert values["val/perplexity_least"] == pytest.approx(min(expected), rel=1e-4)


def test_losses_and_yardsticks_are_no_state() -> None:
    thing = module(adversary=True)
    names = set(thing.state_dict())
    assert {name.split(".")[0] for name in names} == {"representation", "discriminator"}
    loud = AutoencoderModule(
        thing.representation, Reconstruction(8000, perceptual=True), SGD, Constant()
    )
    assert all(name.startswith("representation.") for name in loud.state_dict())
    assert set(dict(loud.named_parameters())) == set(
        dict(thing.representation.named_parameters(prefix="representation"))
    )


def test_balanced_terms_of_both_kinds_train_and_their_averages_are_state(tmp_path: Path) -> None:
    thing = module(adversary=True, balance=0.9)
    before = weights(thing.representation)
    trainer = fit(thing, [batch(2, seed) for seed in range(3)], tmp_path)
    assert not torch.equal(before, weights(thing.representation))
    assert thing.balancer.names == ["wave", "adversarial", "matching"]
    assert (thing.balancer.total > 0).all()
    assert "balancer.total" in thing.state_dict()
    assert trainer.logged_metrics["train/loss"].isfinite()


def test_balanced_a_loss_has_the_value_of_its_terms(tmp_path: Path) -> None:
    logged = [
        fit(module(kl=10.0, balance=decay), [batch(2, 0)], tmp_path).logged_metrics["train/loss"]
        for decay in (None, 0.9)
    ]
    torch.testing.assert_close(*logged)
