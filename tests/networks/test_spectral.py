from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from glissando.errors import UserError
from glissando.networks.bottlenecks.kl import Posterior
from glissando.networks.spectral import SpectralAutoencoder

HOP = 8


def network(channels: int = 6, audio_channels: int = 1) -> SpectralAutoencoder:
    torch.manual_seed(0)
    return SpectralAutoencoder(
        channels, audio_channels, HOP, encoder_width=12, encoder_depth=1, decoder_width=12,
        decoder_depth=1,
    ).eval()  # fmt: skip


def coloured(*shape: int) -> torch.Tensor:
    """Noise that a low pass has made correlated, so that principal components differ."""
    noise = torch.randn(*shape[:-1], shape[-1] + 20, generator=torch.Generator().manual_seed(1))
    return noise.unfold(-1, 21, 1).mean(-1) * 3


@pytest.mark.parametrize("audio_channels", [1, 2])
def test_starts_as_the_pca_codec(audio_channels: int) -> None:
    """Closed form: project each frame of the MDCT onto the leading eigenvectors of X'X / n."""
    net = network(6, audio_channels)
    waves = coloured(4, audio_channels, 400)
    net.warm_start([waves[:2, :, None], waves[2:, :, None]])

    frames = net.mdct(waves).flatten(1, 2).mT.double().numpy()  # (B, T, bands), tested by itself
    flat = frames.reshape(-1, frames.shape[-1])
    variances, directions = np.linalg.eigh(flat.T @ flat / len(flat))
    leading = directions[:, np.argsort(variances)[::-1][:6]]
    projected = torch.from_numpy(frames @ leading @ leading.T).mT.float()
    expected = net.mdct.inverse(projected.unflatten(1, (audio_channels, HOP)), 400)

    posterior: Any = net.encode(waves)
    torch.testing.assert_close(net.decode(posterior.mean, 400), expected, atol=1e-5, rtol=0)
    # Whitened: each latent has mean square 1 over the data, and they are uncorrelated.
    z = posterior.mean.mT.flatten(0, 1)
    torch.testing.assert_close(z.mT @ z / len(z), torch.eye(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(posterior.std, torch.full_like(posterior.std, 0.05 + 1e-4))


def test_all_components_lose_nothing() -> None:
    net = network(channels=HOP)
    waves = coloured(2, 1, 333)
    net.warm_start([waves[:, :, None]])
    torch.testing.assert_close(net.decode(net.encode(waves).mean, 333), waves, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("bits", "rank"), [(-1, 8), (6, 8), (2, 3)])
def test_codecs_that_have_no_room(bits: int, rank: int) -> None:
    with pytest.raises(UserError, match=r"model\.bits=.*model\.rank="):
        SpectralAutoencoder(6, 1, HOP, bits=bits, rank=rank)


@pytest.mark.parametrize("length", [1, 7, 8, 100, 101])
def test_any_length(length: int) -> None:
    net = network(audio_channels=2)
    posterior: Any = net.encode(torch.randn(3, 2, length))
    assert posterior.mean.shape == (3, 6, net.frames(length))
    assert net.decode(posterior.mean, length).shape == (3, 2, length)


@pytest.mark.parametrize("silent", ["wave", "latent"])
def test_silence_has_finite_gradients(silent: str) -> None:
    net = network()
    waves = torch.zeros(4, 1, 400) if silent == "latent" else coloured(4, 1, 400)
    net.warm_start([waves[:, :, None]])
    wave = torch.zeros(2, 1, 64, requires_grad=True)
    posterior: Any = net.encode(wave)
    (net.decode(posterior.sample(), 64).square().mean() + posterior.kl()).backward()
    for name, parameter in [*net.named_parameters(), ("wave", wave)]:
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_the_learned_part_learns_at_the_first_step() -> None:
    """Zero heads must not leave the branches without a gradient: the heads get one."""
    net = network()
    wave = coloured(2, 1, 200)
    net.warm_start([coloured(4, 1, 400)[:, :, None]])
    (net.decode(net.encode(wave).mean, 200) - wave).square().mean().backward()
    for head in (net.decoder_head, net.encoder_head):
        assert head.weight.grad is not None
        assert head.weight.grad.abs().max() > 0


def test_too_little_audio_to_warm_start() -> None:
    with pytest.raises(UserError, match=r"loader\.batch_size"):
        network().warm_start([torch.randn(1, 1, 1, 16)])


def test_posterior_kl_is_torchs() -> None:
    mean, std = torch.randn(3, 5, 7), torch.rand(3, 5, 7) + 0.1
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, std), torch.distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(Posterior(mean, std).kl(), kl.sum(1).mean())
    assert Posterior(torch.zeros(1, 2, 3), torch.ones(1, 2, 3)).kl() == 0


def test_posterior_samples_what_it_says() -> None:
    posterior = Posterior.split(torch.tensor([[[2.0], [0.5]]]).repeat(1, 1, 200_000))
    draw = posterior.sample(torch.Generator().manual_seed(0))
    assert draw.mean().item() == pytest.approx(2.0, abs=0.01)
    assert draw.std().item() == pytest.approx(np.log1p(np.exp(0.5)) + 1e-4, rel=0.01)
