from __future__ import annotations

from typing import Any

import pytest
import torch

from glissando.errors import UserError
from glissando.networks.summary import parameters
from glissando.networks.vae2d import MapAutoencoder


def outside_vae() -> Any:
    pytest.importorskip("diffusers")
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return AutoencoderKL


def test_audioldm_at_its_published_size_is_as_large_as_the_outside_implementation() -> None:
    outside = outside_vae()
    with torch.device("meta"):
        published: Any = outside(
            in_channels=1, out_channels=1, latent_channels=8, block_out_channels=(128, 256, 512),
            layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
        )  # fmt: skip
        ours = MapAutoencoder(attention=True, whole_norm=True)
    assert parameters(ours) == sum(p.numel() for p in published.parameters())


def test_computes_what_the_outside_implementation_computes() -> None:
    outside = outside_vae()
    torch.manual_seed(0)
    published: Any = outside(
        in_channels=2, out_channels=2, latent_channels=4, block_out_channels=(32, 64),
        layers_per_block=1, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, mid_block_add_attention=False,
    ).eval()  # fmt: skip
    ours = MapAutoencoder(4, 2, 32, (1, 2), ((2, 2),), 1, whole_norm=True)
    e, d = published.encoder, published.decoder
    theirs = [
        [e.conv_in, e.down_blocks, e.mid_block, e.conv_norm_out, e.conv_out, published.quant_conv],
        [published.post_quant_conv, d.conv_in, d.mid_block, d.up_blocks, d.conv_norm_out,
         d.conv_out],
    ]  # fmt: skip
    for mine, parts in zip((ours.encoder, ours.decoder), theirs, strict=True):
        other = [p for part in parts for p in part.parameters()]
        assert [p.shape for p in mine.parameters()] == [p.shape for p in other]
        for a, b in zip(mine.parameters(), other, strict=True):
            a.data.copy_(b.data)
    x = torch.randn(2, 2, 12, 8)
    with torch.no_grad():
        mean = published.encode(x).latent_dist.mean
        torch.testing.assert_close(ours.encode_map(x).mean, mean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            ours.decode_map(mean, 12, 8), published.decode(mean).sample, atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("factors", [((2, 2), (2, 2)), ((4, 1), (1, 3)), ((1, 1), (3, 4))])
@pytest.mark.parametrize("size", [(1, 1), (13, 7), (16, 24)])
def test_sizes_are_exact(factors: tuple[tuple[int, int], ...], size: tuple[int, int]) -> None:
    net = MapAutoencoder(3, 2, 4, (1, 2, 1), factors, 1, attention=True)
    posterior = net.encode_map(torch.randn(2, 2, *size))
    expected = (2, 3, -(-size[0] // net.rows), -(-size[1] // net.columns))
    assert posterior.mean.shape == posterior.std.shape == expected
    assert net.decode_map(posterior.sample(), *size).shape == (2, 2, *size)


def test_factors_that_do_not_fit_the_levels_are_refused() -> None:
    line = r"representation\.network\.factors=\[\[2, 2\]\] must be a pair .*: 2$"
    with pytest.raises(UserError, match=line):
        MapAutoencoder(factors=((2, 2),))
