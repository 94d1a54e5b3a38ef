from __future__ import annotations

from functools import partial

import pytest
import torch

from glissando.errors import UserError
from glissando.representations import chunked
from glissando.representations.spectrum import Spectrum
from glissando.vocoders.bandwidth import BandwidthExtension
from glissando.vocoders.bigvgan import BigVGAN
from glissando.vocoders.stereo import MonoToStereo
from glissando.vocoders.vocos import Vocos
from glissando.vocoders.widening import Cascade, Widening

SMALL = partial(Vocos, width=16, depth=1)


def spectrum(rate: int = 8000) -> Spectrum:
    return Spectrum(rate, 128, 32, bands=20)


def bandwidth(ratio: int = 2, network: partial[torch.nn.Module] = SMALL) -> BandwidthExtension:
    torch.manual_seed(0)
    return BandwidthExtension(spectrum(), network, 8000 * ratio).eval()


def stereo(rate: int = 8000) -> MonoToStereo:
    torch.manual_seed(0)
    return MonoToStereo(spectrum(rate), SMALL).eval()


def band_limited(*shape: int) -> torch.Tensor:
    """Noise below 85% of the Nyquist frequency, faded at both ends."""
    spectrum = torch.fft.rfft(torch.randn(*shape))
    spectrum[..., int(0.85 * spectrum.shape[-1]) :] = 0
    return torch.fft.irfft(spectrum, n=shape[-1]) * torch.hann_window(shape[-1])


@pytest.mark.parametrize("ratio", [2, 3])
def test_down_sampling_gives_the_input_back(ratio: int) -> None:
    made, wave = bandwidth(ratio), band_limited(2, 2, 4000)
    out = made.widen(wave)
    assert out.shape == (2, 2, 4000 * ratio)
    window = torch.nn.functional.pad(torch.hann_window(3600), (200, 200))
    back, there = (torch.fft.rfft(each * window)[..., :1800] for each in (made.degrade(out), wave))
    # To 90% of the old Nyquist frequency; the filters' slope is above.
    assert (back - there).norm() < 1e-3 * there.norm()
    # What was added is there, and above the old band.
    added = out - made.resampler.up(wave)
    assert added.norm() > 0.01 * wave.norm()


def test_the_mean_of_left_and_right_is_the_input() -> None:
    made, wave = stereo(), torch.randn(2, 1, 3000)
    out = made.widen(wave)
    assert out.shape == (2, 2, 3000)
    torch.testing.assert_close(out.mean(1, keepdim=True), wave, atol=1e-6, rtol=1e-6)
    assert (out[:, 0] - out[:, 1]).abs().max() > 1e-3
    torch.testing.assert_close(made.degrade(out), wave, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("make", [
    bandwidth, stereo, partial(bandwidth, 3, partial(BigVGAN, width=8, kernels=(3,))),
])  # fmt: skip
def test_chunks_are_the_whole(make: partial[Widening], monkeypatch: pytest.MonkeyPatch) -> None:
    made, wave = make(), torch.randn(1, 1, 20011)
    whole = made.widen(wave)
    assert made.reach is not None
    calls = []
    monkeypatch.setattr(chunked, "CHUNK", 1024)
    made.register_forward_hook(lambda _, given, __: calls.append(given[0].shape[-1]))
    torch.testing.assert_close(made.widen(wave), whole, atol=1e-5, rtol=1e-5)
    assert len(calls) > 3
    assert max(calls) < 10000


@pytest.mark.parametrize("make", [bandwidth, stereo])
@pytest.mark.parametrize("length", [1, 33, 1000])
@pytest.mark.parametrize("level", [0.0, 1.0, 1e4])
def test_any_length_silence_and_what_is_far_too_loud(
    make: partial[Widening], length: int, level: float
) -> None:
    made = make()
    wave = torch.full((1, 2, length * made.ratio), level)
    out = made(made.degrade(wave), wave.shape[-1])
    assert out.shape == wave.shape
    out.square().sum().backward()
    assert out.isfinite().all()
    gradients = [p.grad for p in made.network.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_cascade_has_the_rate_and_channels_of_its_end() -> None:
    cascade = Cascade([("a", bandwidth(3)), ("b", stereo(24000))])
    assert cascade.check(8000, 1) == (24000, 2)
    assert cascade(torch.randn(1, 500)).shape == (2, 1500)
    assert Cascade([("a", bandwidth())]).check(8000, 2) == (16000, 2)
    nothing, wave = Cascade([]), torch.randn(1, 500)
    assert nothing.check(8000, 1) == (8000, 1)
    assert torch.equal(nothing(wave), wave)


def test_what_does_not_fit_is_refused_with_the_flag() -> None:
    with pytest.raises(
        UserError, match=r"cascade=x takes 8000 Hz .* given 22050: .*input_rate=22050"
    ):
        Cascade([("cascade=x", bandwidth())]).check(22050, 1)
    with pytest.raises(
        UserError, match=r"cascade=y takes 8000 .* given 16000: .*data.sample_rate="
    ):
        Cascade([("cascade=x", bandwidth()), ("cascade=y", stereo())]).check(8000, 1)
    with pytest.raises(UserError, match=r"cascade=y makes stereo of mono .* 2 channels: leave it"):
        Cascade([("cascade=y", stereo())]).check(8000, 2)
    for rate in (8000, 12000):
        with pytest.raises(
            UserError, match=rf"input_rate=8000 must be data.sample_rate={rate} div"
        ):
            BandwidthExtension(spectrum(), SMALL, rate)
    with pytest.raises(
        UserError, match=r"learns from stereo, not from 1 channels: set data.channel"
    ):
        MonoToStereo(spectrum(), SMALL, 1)
