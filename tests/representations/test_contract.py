"""What every representation promises, whatever it is."""

from __future__ import annotations

import pytest
import torch
from forms import EXACT, FIXED, LEARNED, RATE

from glissando.metrics.reconstruction import MelError, si_sdr, snr
from glissando.representations import chunked

EVERY = {**FIXED, **LEARNED}


def music(channels: int, length: int) -> torch.Tensor:
    """Chords with an attack and a little noise, other ones in every channel: (2, A, L)."""
    chance = torch.Generator().manual_seed(length)
    time = torch.arange(length) / RATE
    pitch = 110 * 2 ** (torch.randint(36, (2, channels, 3, 1), generator=chance) / 12)
    tones = torch.sin(2 * torch.pi * pitch * time).sum(2) * torch.exp(-3 * (time % 0.25))
    return 0.2 * tones + 0.003 * torch.randn(2, channels, length, generator=chance)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_shapes(name: str, channels: int) -> None:
    form = EVERY[name](channels)
    assert (form.audio_channels, form.sample_rate) == (channels, RATE)
    for length in (1, RATE // 10, 1001):
        z = form.encode(music(channels, length))
        assert z.shape == (2, form.channels, form.freqs, form.frames(length))
        again = form.decode(z, length)
        assert again.shape == (2, channels, length)
        assert again.isfinite().all()
        assert z.dtype == again.dtype == torch.float32


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("length", [1, 255, 256, 257, 800, 8001])
def test_exact_ones_give_the_audio_back(name: str, length: int) -> None:
    form, wave = FIXED[name](2), music(2, length)
    again = form.decode(form.encode(wave), length)
    assert snr(again, wave).min() > (100 if length > 100 else 60)
    assert (again - wave).abs().max() < 1e-5  # at the ends too


@pytest.mark.parametrize("name", sorted(set(FIXED) - set(EXACT)))
def test_the_others_give_back_what_is_heard(name: str) -> None:
    """Griffin-Lim of 4 iterations: far from silence and from noise as loud as the music."""
    form, wave, error = FIXED[name](1), music(1, RATE), MelError(RATE)
    again = form.decode(form.encode(wave), RATE)
    noise = torch.randn(wave.shape, generator=torch.Generator().manual_seed(0)) * wave.std()
    assert error(again, wave).max() < 0.5 * error(noise, wave).min()
    assert (again.std() / wave.std()).log().abs() < 0.5


WAVES = {
    "silence": torch.zeros(1, 2, 2000),
    "DC": torch.full((1, 2, 2000), 0.7),
    "clipped": (20 * music(2, 2000)[:1]).clamp(-1, 1),
    "beyond full scale": 4 * music(2, 2000)[:1],
    "a click": torch.nn.functional.one_hot(torch.tensor([[900, 901]]), 2000).float(),
}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("wave", WAVES)
def test_audio_at_its_limits(name: str, wave: str) -> None:
    form, original = EVERY[name](2), WAVES[wave]
    with torch.no_grad():
        z = form.encode(original)
        again = form.decode(z, 2000)
    assert z.isfinite().all()
    assert again.isfinite().all()
    if name in LEARNED:  # untrained: of no certain loudness, but of no absurd one either
        assert again.abs().max() < 10 * original.abs().max().clamp_min(1)
    elif name in EXACT:
        assert (again - original).abs().max() < 1e-4 * max(1, float(original.abs().max()))
    else:  # of its loudness; silence to 80 dB below full scale
        loud = [each.square().mean().sqrt().clamp_min(1e-4) for each in (again, original)]
        assert (loud[0] / loud[1]).log() < 1
        if not ("mel" in name and wave == "DC"):  # which is in no mel band
            assert (loud[0] / loud[1]).log() > -1


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("rate", [11025, 16000, 44100, 48000, 96000])
def test_any_sample_rate(name: str, rate: int) -> None:
    """As at 8 kHz: a tenth of a second, mel bands of the whole spectrum or of what is set."""
    form, wave = FIXED[name](2, rate), music(2, rate // 10)
    z = form.encode(wave)
    again = form.decode(z, rate // 10)
    assert (form.sample_rate, again.shape) == (rate, wave.shape)
    assert z.isfinite().all()
    if name in EXACT:
        assert snr(again, wave).min() > 60
    else:
        assert (again.std() / wave.std()).log().abs() < 0.7


@pytest.mark.parametrize("name", FIXED)
def test_half_precision_around_it_changes_nothing(name: str) -> None:
    form, wave = FIXED[name](1), music(1, 1500)
    z = form.encode(wave)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(form.encode(wave), z, atol=0, rtol=0)
        torch.testing.assert_close(form.decode(z, 1500), form.decode(z, 1500), atol=0, rtol=0)
        inside = form.decode(z, 1500)
        half = form.decode(z.bfloat16(), 1500)
    torch.testing.assert_close(inside, form.decode(z, 1500), atol=0, rtol=0)
    assert half.isfinite().all()


@pytest.mark.parametrize("name", EVERY)
def test_long_audio_in_chunks_is_what_one_pass_gives(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = EVERY[name](2)
    core = 4 * (form.reach or 64) * form.hop
    length = 3 * core + core // 3
    wave = music(2, length)[:1]
    with torch.no_grad():
        z = form.encode_piece(wave)
        once = form.decode_piece(z, length)
        passes: list[int] = []
        encode, decode = form.encode_piece, form.decode_piece
        monkeypatch.setattr(chunked, "CHUNK", core)
        monkeypatch.setattr(form, "encode_piece", lambda w: passes.append(w.shape[-1]) or encode(w))
        monkeypatch.setattr(form, "decode_piece", lambda z, n: passes.append(n) or decode(z, n))
        in_chunks, wave_in_chunks = form.encode(wave), form.decode(z, length)
    assert len(passes) == 8
    assert max(passes) <= core + 2 * (form.reach or 0) * form.hop
    assert in_chunks.shape == z.shape
    assert (in_chunks - z).abs().max() < 1e-4
    assert (wave_in_chunks - once).abs().max() < 1e-4
    if name in EXACT:
        assert si_sdr(wave_in_chunks, wave).min() > 100


@pytest.mark.parametrize("name", EVERY)
@torch.no_grad()
def test_a_clip_does_not_depend_on_its_company(name: str) -> None:
    form, wave = EVERY[name](2), music(2, 900)
    z = form.encode(wave)
    torch.testing.assert_close(form.encode(wave[1:]), z[1:], atol=1e-4, rtol=1e-4)
    alone = form.decode(z[1:], 900)
    torch.testing.assert_close(alone, form.decode(z, 900)[1:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", FIXED)
def test_decoding_has_a_gradient_everywhere(name: str) -> None:
    form = FIXED[name](1)
    z = form.encode(WAVES["a click"][:, :1]).requires_grad_()
    (gradient,) = torch.autograd.grad(form.decode(z, 2000).square().sum(), z)
    assert gradient.isfinite().all()
    assert gradient.any()


@pytest.mark.parametrize("name", FIXED)
def test_statistics(name: str) -> None:
    form = FIXED[name](2)
    assert not form.measured
    z = form.encode(music(2, 3000))
    assert form.normalize(z).isnan().all()
    flat = z.double().transpose(0, 1).flatten(1)
    form.measure(flat.sum(1), flat.square().sum(1), flat.shape[1])
    assert form.measured
    normal = form.normalize(z)
    torch.testing.assert_close(
        normal.mean((0, 2, 3)), torch.zeros(form.channels), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(normal.std((0, 2, 3)), torch.ones(form.channels), atol=1e-3, rtol=0)
    torch.testing.assert_close(form.denormalize(normal), z, atol=1e-4, rtol=1e-4)
    assert set(form.state_dict()) == {"latent_mean", "latent_std"}  # all that a checkpoint holds
    other = FIXED[name](2)
    other.load_state_dict(form.state_dict())
    torch.testing.assert_close(other.normalize(z), normal, atol=0, rtol=0)


def test_fingerprints_tell_apart_what_encodes_otherwise() -> None:
    marks = [form(channels).fingerprint() for form in EVERY.values() for channels in (1, 2)]
    assert len(set(marks)) == len(marks)
    assert marks == [form(channels).fingerprint() for form in EVERY.values() for channels in (1, 2)]


@pytest.mark.parametrize("name", EVERY)
def test_a_frame_looks_around_the_middle_of_its_block(name: str) -> None:
    """But for its ``lead``: by the energy of the gradient of frames far apart, in hops."""
    form, apart, count = EVERY[name](1), 32, 16
    chance = torch.Generator().manual_seed(0)
    wave = 0.1 * torch.randn(1, 1, apart * (count + 1) * form.hop, generator=chance)
    z = form.encode_piece(wave.requires_grad_())
    at = apart * torch.arange(1, count + 1)
    weights = torch.randn(*z.shape[:-1], count, generator=chance)
    (gradient,) = torch.autograd.grad((z[..., at] * weights).sum(), wave)
    first = at - apart // 2
    energy = torch.stack([gradient[0, 0, k * form.hop :][: apart * form.hop] for k in first])
    energy = energy.square().sum(0)
    time = (torch.arange(len(energy)) + 0.5) / form.hop - apart // 2
    middle = float((energy * time).sum() / energy.sum())
    # The kernels of latent diffusion's encoder begin with their cell, the decoder's are centred.
    lean = 0.25 if name == "latent mel" else 0
    assert middle == pytest.approx(0.5 - form.lead + lean, abs=0.15)
    assert form.lead == (0.5 if name == "spectral" else 0)
