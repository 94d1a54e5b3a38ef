from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pytest
import torch

from glissando.errors import UserError
from glissando.networks.fold import fold
from glissando.networks.summary import parameters
from glissando.representations import chunked
from glissando.representations.spectrogram import Spectrogram
from glissando.representations.stft import STFT
from glissando.vocoders.bigvgan import BigVGAN, factors
from glissando.vocoders.neural import NeuralVocoder
from glissando.vocoders.vocos import Vocos
from tiny import Train, numbers

LARGE = {"width": 1536, "rates": (4, 4, 2, 2, 2, 2)}
BASE = {"width": 512, "rates": (8, 8, 2, 2)}
V2 = {"width": 1536, "rates": (8, 4, 2, 2, 2, 2)}


@pytest.mark.parametrize(
    ("bands", "hop", "sizes", "millions"),
    [(100, 256, LARGE, 112), (100, 256, BASE, 14), (128, 512, V2, 122)],
    ids=["24khz_100band", "base_24khz_100band", "v2_44khz_128band_512x"],
)
def test_parameters_are_as_published(
    bands: int, hop: int, sizes: dict[str, object], millions: int
) -> None:
    """The table of the published models (NVIDIA/BigVGAN, README)."""
    with torch.device("meta"):
        network = BigVGAN(bands, STFT(4 * hop, hop), **sizes)  # type: ignore[arg-type]
    assert round(parameters(network) / 1e6) == millions


def test_vocos_has_the_parameters_that_are_published() -> None:
    """13.5 M (Siuzdak 2023, table 1), at 100 bands of 24 kHz."""
    with torch.device("meta"):
        assert round(parameters(Vocos(100, STFT(1024, 256))) / 1e6, 1) == 13.5


@pytest.mark.parametrize("hop", [2, 64, 256, 441, 480, 512, 514, 600])
def test_any_hop_has_rates(hop: int) -> None:
    rates = factors(hop)
    assert math.prod(rates) == hop
    assert all(rate <= 8 or all(rate % d for d in range(2, rate)) for rate in rates)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("hop", "frames"), [(6, 1), (35, 3), (64, 5), (22, 2)])
def test_frames_are_samples_at_any_hop(hop: int, frames: int, antialias: bool) -> None:
    network = BigVGAN(5, STFT(2 * hop, hop), width=16, antialias=antialias)
    out = network(torch.randn(2, 5, frames, requires_grad=True))
    assert out.shape == (2, hop * frames)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_chunks_are_the_whole_in_stereo(monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(BigVGAN, width=8, kernels=(3,), antialias=True)
    form = Spectrogram(8000, 2, partial(NeuralVocoder, network=small), 256, 64, bands=24).eval()
    z = form.encode(torch.randn(1, 2, 20011))
    whole = form.decode_piece(z, 20011)
    monkeypatch.setattr(chunked, "CHUNK", 1024)
    torch.testing.assert_close(form.decode(z, 20011), whole, atol=1e-5, rtol=1e-5)


def test_folded_weights_make_the_same_sound() -> None:
    network, logs = BigVGAN(5, STFT(64, 16), width=16).eval(), torch.randn(1, 5, 9)
    before = network(logs)
    names = [name for name, _ in fold(network).named_parameters()]
    assert not any("parametrizations" in name for name in names)
    torch.testing.assert_close(network(logs), before, atol=1e-6, rtol=1e-5)


def test_what_does_not_fit_is_refused_with_the_flag() -> None:
    make = partial(BigVGAN, 5, STFT(256, 64))
    with pytest.raises(UserError, match=r"rates=\[8, 4\] make 32 .* not 64: set model.rates=\[8, "):
        make(width=16, rates=[8, 4])
    with pytest.raises(UserError, match=r"model.width=6 cannot be halved in each of 2 stages"):
        make(width=6)
    with pytest.raises(UserError, match=r"model.kernels=\[4\] must be odd"):
        make(width=16, kernels=[4])


def test_it_learns(train: Train, tmp_path: Path) -> None:
    train(
        tmp_path, "model=vocoder_bigvgan", "representation.n_fft=256", "representation.hop=64",
        "representation.bands=24", "model.width=16", "model.kernels=[3]", "loader.seconds=0.25",
        "loader.batch_size=4", "loader.workers=0", "gan.adversarial_start=100",
        "reconstruction.sizes=[256,64]", "trainer.max_steps=15", "schedule.warmup=0",
        "optimizer.lr=5e-3", "trainer.val_check_interval=15",
    )  # fmt: skip
    mel = [float(row["train/mel"]) for row in numbers(tmp_path)]
    assert sum(mel[-3:]) < 0.9 * sum(mel[:3])
