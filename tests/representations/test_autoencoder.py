from __future__ import annotations

from functools import partial

import pytest
import torch

from glissando.networks.bottlenecks.fsq import FSQ
from glissando.networks.bottlenecks.rvq import RVQ
from glissando.networks.spectral import SpectralAutoencoder
from glissando.representations.autoencoder import Autoencoder


def autoencoder(audio_channels: int = 1) -> Autoencoder:
    torch.manual_seed(0)
    network = SpectralAutoencoder(4, audio_channels, 8, 12, 1, 12, 1)
    return Autoencoder(network, 8000).eval()


def test_says_what_its_network_is() -> None:
    representation = autoencoder(2)
    assert (representation.channels, representation.freqs, representation.hop) == (4, 1, 8)
    assert (representation.audio_channels, representation.sample_rate) == (2, 8000)


@pytest.mark.parametrize("length", [1, 63, 64, 65])
def test_latents_have_four_dimensions_and_audio_its_length(length: int) -> None:
    representation = autoencoder(2)
    z = representation.encode(torch.randn(3, 2, length))
    assert z.shape == (3, 4, 1, representation.frames(length))
    assert representation.decode(z, length).shape == (3, 2, length)


def test_encoding_is_the_mean_and_does_not_vary() -> None:
    representation, wave = autoencoder(), torch.randn(1, 1, 100)
    torch.testing.assert_close(
        representation.encode(wave), representation.encode(wave), atol=0, rtol=0
    )


def test_unmeasured_statistics_are_no_scale() -> None:
    representation = autoencoder()
    assert not representation.measured
    assert representation.normalize(torch.zeros(1, 4, 1, 3)).isnan().all()


def test_measured_latents_have_zero_mean_and_unit_variance() -> None:
    representation = autoencoder()
    z = torch.randn(5, 4, 1, 200) * torch.tensor([0.1, 1, 10, 3]).view(4, 1, 1) + 2
    total, squares = z.sum((0, 2, 3)), z.square().sum((0, 2, 3))
    representation.measure(total, squares, torch.tensor(1000.0))
    assert representation.measured
    normal = representation.normalize(z)
    torch.testing.assert_close(normal.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        normal.var((0, 2, 3), correction=0), torch.ones(4), atol=1e-3, rtol=0
    )
    torch.testing.assert_close(representation.denormalize(normal), z, atol=1e-5, rtol=1e-5)


def test_statistics_travel_with_the_weights() -> None:
    first, second = autoencoder(), autoencoder()
    first.measure(torch.ones(4), torch.full((4,), 5.0), torch.tensor(1.0))
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second.latent_std, torch.full((1, 4, 1, 1), 2.0))


def test_a_dead_channel_stays_finite() -> None:
    representation = autoencoder()
    representation.measure(torch.zeros(4), torch.zeros(4), torch.tensor(10.0))
    assert representation.normalize(torch.zeros(1, 4, 1, 3)).isfinite().all()


def test_fingerprint_follows_every_weight_and_not_the_statistics() -> None:
    representation = autoencoder()
    mark = representation.fingerprint()
    assert autoencoder().fingerprint() == mark
    representation.measure(torch.ones(4), torch.full((4,), 5.0), torch.tensor(1.0))
    assert representation.fingerprint() == mark
    with torch.no_grad():
        representation.network.decoder.final.bias[0] += 1e-7
    assert representation.fingerprint() != mark


@pytest.mark.parametrize("books", [partial(FSQ, levels=(3, 4)), partial(RVQ, count=2, size=5)])
def test_what_is_sampled_sounds_as_its_codes_do(books: partial[FSQ] | partial[RVQ]) -> None:
    """A diffusion model never lands on a code; the decoder hears one nevertheless."""
    network = SpectralAutoencoder(4, 1, 8, 12, 1, 12, 1, bottleneck=books)
    torch.nn.init.normal_(network.decoder_head.weight, std=0.1)
    representation, z = Autoencoder(network, 8000).eval(), 2 * torch.randn(1, 4, 1, 9)
    heard = representation.decode(z, 64)
    settled = network.bottleneck.settle(z)
    torch.testing.assert_close(heard, network.decode_map(settled, 1, 64).squeeze(2))
    assert not torch.allclose(heard, network.decode_map(z, 1, 64).squeeze(2))
    wave = torch.randn(1, 1, 64)
    again = representation.decode(representation.encode(wave), 64)
    trained = network.decode_map(network.encode_map(wave.unsqueeze(2)).sample(), 1, 64)
    torch.testing.assert_close(again, trained.squeeze(2))
