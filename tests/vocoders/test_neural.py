from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from glissando.errors import UserError
from glissando.generation import load
from glissando.networks.discriminators import Discriminators, MultiPeriodDiscriminator
from glissando.representations import chunked
from glissando.representations.spectrogram import Spectrogram
from glissando.representations.spectrum import Spectrum
from glissando.vocoders.neural import NeuralVocoder
from glissando.vocoders.vocos import Vocos
from tiny import DIT, VOCODER, Train, numbers, stored

RATE, N_FFT, HOP, BANDS = 8000, 256, 64, 24
MEL = ["representation.n_fft=256", "representation.hop=64", "representation.bands=24"]


def vocoder() -> NeuralVocoder:
    torch.manual_seed(0)
    small = partial(Vocos, width=16, depth=2)
    return NeuralVocoder(Spectrum(RATE, N_FFT, HOP, bands=BANDS), small).eval()


@pytest.mark.parametrize(("rows", "channels", "length"), [(1, 1, 1), (2, 2, 1000), (3, 1, 6400)])
def test_any_length_and_channels(rows: int, channels: int, length: int) -> None:
    made = vocoder()
    out = made(made.degrade(torch.randn(rows, channels, length)), length)
    assert out.shape == (rows, channels, length)
    assert out.isfinite().all()


@pytest.mark.parametrize("level", [0.0, 1.0, 1e4])
def test_silence_direct_current_and_what_is_far_too_loud_stay_finite(level: float) -> None:
    made = vocoder()
    given = made.degrade(torch.full((1, 1, 4000), level)).requires_grad_()
    out = made(given, 4000)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert given.grad is not None
    assert given.grad.isfinite().all()


def test_channels_do_not_hear_each_other() -> None:
    made, wave = vocoder(), torch.randn(1, 2, 3000)
    both = made(made.degrade(wave), 3000)
    alone = made(made.degrade(wave[:, :1]), 3000)
    torch.testing.assert_close(both[:, :1], alone, atol=1e-5, rtol=1e-5)


def test_bf16_autocast_makes_float32_sound() -> None:
    made, wave = vocoder(), torch.randn(1, 1, 3000)
    exact = made(made.degrade(wave), 3000)
    with torch.autocast("cpu", torch.bfloat16):
        out = made(made.degrade(wave), 3000)
    assert out.dtype is torch.float32
    assert (out - exact).norm() < 0.1 * exact.norm()


def test_chunks_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(NeuralVocoder, network=partial(Vocos, width=16, depth=2))
    form = Spectrogram(RATE, 2, small, N_FFT, HOP, bands=BANDS).eval()
    # An embedding and two blocks of 7 frames, and the windows that overlap a block.
    assert form.vocoder.reach == 3 * 3 + form.spectrum.stft.reach
    z = form.encode(torch.randn(1, 2, 20011))
    whole = form.decode_piece(z, 20011)
    monkeypatch.setattr(chunked, "CHUNK", 1024)
    torch.testing.assert_close(form.decode(z, 20011), whole, atol=1e-5, rtol=1e-5)


def test_it_learns_and_is_resumed_to_the_bit(train: Train, tmp_path: Path) -> None:
    run = [*VOCODER, "trainer.val_check_interval=3", "schedule.steps=12", "schedule.warmup=0"]
    run += ["optimizer.lr=5e-3"]
    train(tmp_path / "whole", *run, "trainer.max_steps=12")
    for steps in (6, 12):
        train(tmp_path / "parts", *run, f"trainer.max_steps={steps}", "ckpt=last")
    assert numbers(tmp_path / "whole") == numbers(tmp_path / "parts")
    one, two = stored(tmp_path / "whole"), stored(tmp_path / "parts")
    for key in ("state_dict", "ema", "optimizer_states", "consumed", "ema_updates"):
        torch.testing.assert_close(one[key], two[key], atol=0, rtol=0)
    mel = [float(row["train/mel"]) for row in numbers(tmp_path / "whole")]
    assert sum(mel[-3:]) < 0.95 * sum(mel[:3])
    assert "train/discriminator" in numbers(tmp_path / "whole")[-1]


@pytest.fixture(scope="module")
def trained(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocoder")
    train(folder, *VOCODER, "trainer.max_steps=2")
    return folder


def test_a_denoiser_carries_the_vocoder_that_it_was_given(
    train: Train, tmp_path: Path, trained: Path
) -> None:
    train(tmp_path, *DIT, "representation=mel", *MEL, f"representation.vocoder={trained}",
          "trainer.max_steps=1")  # fmt: skip
    model = load(str(tmp_path))
    for name, averaged in stored(trained)["ema"].items():
        inside = model.representation.get_parameter(f"vocoder.network.{name}")
        torch.testing.assert_close(inside, averaged, atol=0, rtol=0)
    (clip,) = model.generate(["a tone"], seconds=0.5)
    assert clip.wave.shape == (1, RATE // 2)
    assert clip.wave.isfinite().all()


def test_what_does_not_fit_is_refused_with_the_flag(
    train: Train, tmp_path: Path, trained: Path, vae: Path
) -> None:
    def refused(line: str, *more: str) -> None:
        with pytest.raises(UserError, match=line):
            train(tmp_path, *DIT, "representation=mel", *MEL, *more)

    given = f"representation.vocoder={trained}"
    refused(r"set representation\.bands=24, or", given, "representation.bands=30")
    refused(r"set representation\.f_max=4000", given, "representation.f_max=3000")
    refused(r"kind autoencoder, not a vocoder", f"representation.vocoder={vae}")
    line = r"vocoder=/no does not exist.*train\.py model=vocoder, or use .*=griffin_lim"
    refused(line, "representation.vocoder=/no")
    with pytest.raises(UserError, match="use representation=mel or representation=spectrogram"):
        train(tmp_path, "model=vocoder", "representation=waveform")
    with pytest.raises(UserError, match=r"a vocoder checkpoint, .*representation\.vocoder="):
        load(str(trained))


def test_periods_are_columns_and_short_clips_are_filled() -> None:
    """A period sees its own column alone: what changes in one leaves the others' scores."""
    torch.manual_seed(0)
    critic = Discriminators({"periods": partial(MultiPeriodDiscriminator, periods=(2, 5), width=2)})
    assert [len(features) for _, features in critic(torch.randn(1, 1, 1))] == [5, 5]
    wave = torch.randn(1, 1, 500)
    other = wave.clone()
    other[..., 2::5] += 1
    _, (before, _) = critic(wave)
    _, (after, _) = critic(other)
    assert before.shape[-1] == 5
    changed = (before - after).abs().amax((0, 1, 2)) > 0
    assert changed.tolist() == [False, False, True, False, False]
