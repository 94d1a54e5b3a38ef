from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from glissando.networks.bottlenecks.kl import KL
from glissando.networks.bottlenecks.tanh import Tanh
from glissando.networks.encodec import EnCodec
from glissando.networks.summary import parameters
from glissando.representations.autoencoder import Autoencoder


def outside(**config: Any) -> Any:
    """transformers' EncodecModel, whose defaults are the published 24 kHz model."""
    transformers = pytest.importorskip("transformers")
    return transformers.EncodecModel(transformers.EncodecConfig(**config)).eval()


def test_it_is_as_large_as_the_outside_implementation() -> None:
    with torch.device("meta"):
        ours, published = EnCodec(bottleneck=Tanh), outside()
    # Its codebooks are buffers: they are moved and not trained.
    assert parameters(ours) == parameters(published)


@pytest.mark.parametrize("length", [1, 5, 64, 1000])
def test_computes_what_the_outside_implementation_computes(length: int) -> None:
    torch.manual_seed(0)
    published = outside(
        audio_channels=2, num_filters=4, upsampling_ratios=[5, 2], hidden_size=6, codebook_size=8
    )
    ours = EnCodec(6, 2, 4, (2, 5), bottleneck=Tanh)
    for mine, theirs in (
        (ours.encoder, published.encoder), (ours.decoder, published.decoder)
    ):  # fmt: skip
        assert [p.shape for p in mine.parameters()] == [p.shape for p in theirs.parameters()]
        for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
            torch.nn.init.normal_(b, std=0.3)
            a.data.copy_(b.data)
    wave = torch.randn(3, 2, length)
    with torch.no_grad():
        z = published.encoder(wave)
        assert z.shape[2] == ours.frames(length)
        torch.testing.assert_close(ours.raw(wave), z, atol=1e-5, rtol=1e-4)
        expected = published.decoder(z)[..., :length]
        torch.testing.assert_close(ours.decode(z, length), expected, atol=1e-5, rtol=1e-4)


def test_it_is_causal_and_sees_all_that_came_before() -> None:
    torch.manual_seed(0)
    net = EnCodec(4, 1, 4, (2, 3), 1, KL)
    wave = torch.randn(1, 1, 120, requires_grad=True)
    net.decode(net.raw(wave)[:, :4], 120)[0, 0, 66].backward()
    assert wave.grad is not None
    assert not wave.grad[..., 72:].any()  # its latent frame ends there
    assert wave.grad[..., :72].any()
    assert Autoencoder(EnCodec(4, 1, 2, (2, 3), 1, partial(KL)), 8000).reach is None
