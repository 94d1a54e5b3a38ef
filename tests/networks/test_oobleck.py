from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from glissando.networks.bottlenecks.rvq import RVQ
from glissando.networks.fold import fold
from glissando.networks.oobleck import OobleckAutoencoder
from glissando.networks.summary import parameters


def test_computes_what_the_published_model_computes() -> None:
    """diffusers' AutoencoderOobleck (Stable Audio Open's) with the same weights, small layout."""
    pytest.importorskip("diffusers")
    # The module alone: importing all of diffusers' models takes a minute.
    from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck

    torch.manual_seed(0)
    published: Any = AutoencoderOobleck(
        encoder_hidden_size=32, downsampling_ratios=[2, 4, 8, 8], channel_multiples=[1, 2, 4, 8],
        decoder_channels=32, decoder_input_channels=16, audio_channels=2,
    )  # fmt: skip
    for name, parameter in published.named_parameters():
        if "alpha" in name or "beta" in name:
            nn.init.normal_(parameter, std=0.3)  # else a swap of the two could not be seen
    ours = OobleckAutoencoder(16, 2, 32, (1, 2, 4, 8), (2, 4, 8, 8))
    for ours_part, theirs in ((ours.encoder, published.encoder), (ours.decoder, published.decoder)):
        mine, other = list(ours_part.parameters()), list(theirs.parameters())
        assert [p.numel() for p in mine] == [p.numel() for p in other]
        for a, b in zip(mine, other, strict=True):
            a.data.copy_(b.data.view_as(a))
    wave = torch.randn(1, 2, 512 * 5)
    with torch.no_grad():
        expected = published.encode(wave).latent_dist
        posterior: Any = ours.encode(wave)
        decoded = published.decode(expected.mean).sample
        torch.testing.assert_close(posterior.mean, expected.mean, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(posterior.std, expected.std, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            ours.decode(expected.mean, wave.shape[-1]), decoded, atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("strides", [(2, 4), (3, 5), (2, 3), (7,)])
@pytest.mark.parametrize("length", [1, 20, 105, 106])
def test_lengths_are_exact(strides: tuple[int, ...], length: int) -> None:
    net = OobleckAutoencoder(4, 1, 4, (1,) * len(strides), strides)
    assert net.hop == math.prod(strides)
    posterior = net.encode(torch.randn(2, 1, length))
    assert posterior.mean.shape == (2, 4, math.ceil(length / net.hop))
    assert net.decode(posterior.mean, length).shape == (2, 1, length)


def test_silence_has_finite_gradients() -> None:
    net = OobleckAutoencoder(4, 2, 4, (1, 2), (2, 3))
    net.decode(net.encode(torch.zeros(1, 2, 60)).sample(), 60).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_folded_it_makes_the_same_sound() -> None:
    torch.manual_seed(0)
    net = OobleckAutoencoder(8, 2, 8, (1, 2, 4), (2, 3, 8))
    wave = torch.randn(2, 2, 1000)
    with torch.no_grad():
        for weight in net.parameters():  # a norm of the weights that is not the start's
            weight.add_(0.1 * torch.randn_like(weight))
        z = net.encode(wave).mean
        expected = net.decode(z, 1000)
        fold(net)
        assert not any("original" in name for name in net.state_dict())
        torch.testing.assert_close(net.encode(wave).mean, z, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(net.decode(z, 1000), expected, atol=1e-5, rtol=1e-5)


def test_what_is_coded_without_gradients_is_what_is_trained() -> None:
    """In place or not; and neither the waveform nor the latent is overwritten."""
    net = OobleckAutoencoder(8, 1, 8, (1, 2), (2, 4))
    wave = torch.randn(2, 1, 100)
    z = net.encode(wave).mean
    given = wave.clone(), z.detach().clone()
    with torch.no_grad():
        torch.testing.assert_close(net.encode(given[0]).mean, z)
        torch.testing.assert_close(net.decode(given[1], 100), net.decode(z, 100))
    assert torch.equal(given[0], wave)
    assert torch.equal(given[1], z)


def test_dac_is_as_large_as_the_outside_implementation() -> None:
    """transformers' DacModel, whose defaults are the published 44.1 kHz model: 76.6 M."""
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        published = transformers.DacModel(transformers.DacConfig())
        ours = OobleckAutoencoder(
            1024, 1, 64, (2, 4, 8, 16), (2, 4, 8, 8), decoder_width=96, two_snakes=False,
            bounded=True, bottleneck=RVQ,
        )  # fmt: skip
    for mine, theirs in (
        (ours.encoder, published.encoder), (ours.decoder, published.decoder),
        (ours.bottleneck, published.quantizer),
    ):  # fmt: skip
        # Weight norm stores a gain for each output channel beside the weight: transformers counts
        # without it.
        gains = sum(p.numel() for name, p in mine.named_parameters() if "original0" in name)
        assert parameters(mine) - gains == parameters(theirs)
    assert parameters(published) == 76_620_777
