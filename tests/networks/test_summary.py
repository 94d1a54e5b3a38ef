"""Parameters and operations as counted, against counts by hand."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from glissando.condition import Condition, Local, Sequence, Size, Vector
from glissando.conditioning.adaln import AdaLNZero
from glissando.conditioning.channel_concat import ChannelConcat
from glissando.conditioning.cross_attention import CrossAttention
from glissando.conditioning.prefix import Prefix
from glissando.networks.dit import DiT
from glissando.networks.spectral import SpectralAutoencoder
from glissando.networks.summary import codec_summary, flops, network_summary, parameters
from glissando.networks.unet import UNet

ADALN = {"adaln": partial(AdaLNZero, reads=["noise", "pooled"], embedding=8)}
POOLED = {"pooled": Size(Vector, 5)}


def test_operations_of_a_dit():
    """2 for each weight and token, 4 N D for each token's scores and sums; AdaLN acts once."""
    n, width, depth, hidden = 12, 32, 3, 64
    network = DiT(
        6, POOLED, ADALN, width=width, depth=depth, heads=4, expansion=2, gated=False, noise_dim=10
    )
    tokens = depth * (4 * width**2 + 2 * width * hidden) + 2 * 6 * width
    vectors = (10 + 8) * 8 + (5 + 8) * 8 + depth * 8 * 6 * width + 8 * 2 * width
    wanted = 2 * n * tokens + 2 * vectors + depth * 4 * n**2 * width
    assert flops(network, (6, 1, n), POOLED) == wanted


def test_operations_of_a_unet():
    """Convolutions at their own resolution; attention at half of it, in the middle alone."""
    width, frames = 8, 20
    network = UNet(
        6,
        POOLED,
        ADALN,
        width=width,
        multiples=[1, 2],
        factor=(1, 2),
        depth=1,
        attention=[],
        heads=2,
        noise_dim=10,
    )
    coarse, n = 2 * width, frames // 2
    fine_blocks = 3 * 2 * 3 * width**2 + 2 * 2 * width**2  # of 3 taps; and 2 fusions
    coarse_blocks = (3 + 2) * 2 * 3 * coarse**2 + 2 * 2 * coarse**2 + 4 * coarse**2
    ends = 2 * 3 * 6 * width
    resampling = 2 * 4 * width * coarse  # kernels of 4, at the coarse resolution
    branches = 3 * 3 * width + (5 + 1) * 3 * coarse + 2 * width
    vectors = (10 + 8) * 8 + (5 + 8) * 8 + 8 * branches
    products = frames * (fine_blocks + ends) + n * (coarse_blocks + resampling) + vectors
    assert flops(network, (6, 1, frames), POOLED) == 2 * products + 4 * n**2 * coarse


def test_tokens_of_the_condition_are_counted():
    cross = {**ADALN, "cross": partial(CrossAttention, reads=["text"], context=16)}
    sizes = {**POOLED, "text": Size(Sequence, 7)}
    network = DiT(6, sizes, cross, width=32, depth=2, heads=4, noise_dim=10)
    short, long = (flops(network, (6, 1, 12), sizes, tokens=s) for s in (1, 11))
    # A token's embedding; per block its key and value, and its score and sum at 12 queries.
    assert long - short == 10 * (2 * 7 * 16 + 2 * (2 * 16 * 2 * 32 + 4 * 12 * 32))


def test_every_kind_of_entry_and_the_network_stays_as_it_was():
    sizes = {"pooled": Size(Vector, 5), "text": Size(Sequence, 7), "control": Size(Local, 3)}
    mechanisms = {
        "prefix": partial(Prefix, reads=["noise", "text", "pooled"]),
        "channel_concat": partial(ChannelConcat, reads=["control"], each=2),
    }
    network = UNet(6, sizes, mechanisms, width=8, multiples=[1, 2], attention=[1], factor=(2, 2))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert flops(network, (6, 4, 9), sizes) > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    known = Condition(
        {
            "pooled": Vector(torch.randn(1, 5)),
            "text": Sequence(torch.randn(1, 2, 7), torch.ones(1, 2, dtype=torch.bool)),
            "control": Local(torch.randn(1, 3, 1, 9)),
        }
    )
    assert network(torch.randn(1, 6, 4, 9), torch.rand(1), known).isfinite().all()


def test_the_table_has_every_part_and_their_sum():
    network = DiT(6, POOLED, ADALN, width=32, depth=1, heads=4, noise_dim=10)
    head, *rows, last = network_summary(network, (6, 1, 12), POOLED).text.splitlines()
    assert head.split() == ["part", "parameters"]
    found = {name: int(count.replace(",", "")) for name, count in (row.split() for row in rows)}
    total = found.pop("all")
    assert total == parameters(network) == sum(found.values())
    assert found["blocks"] == parameters(network.blocks)
    assert "conv_in" not in found
    work = flops(network, (6, 1, 12), POOLED) / 1e9
    assert last.startswith(f"one clip of 6 x 1 x 12 forward: {work:.3g} GFLOP")


def test_parameters_outside_of_any_part_are_shown():
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))
            self.inner = nn.Linear(4, 4)

        def forward(self, z, noise, condition):
            return self.inner(z)

    table = network_summary(Scaled(), (1, 1, 4), {}).text
    assert [row.split() for row in table.splitlines()[1:4]] == [
        ["inner", "20"], ["(own)", "3"], ["all", "23"],
    ]  # fmt: skip


def test_operations_of_an_autoencoder():
    """The linear codec and the blocks, each at every frame; an FFT has no products to count."""
    hop, channels, width, hidden = 16, 4, 8, 24
    network = SpectralAutoencoder(
        channels, 1, hop, encoder_width=width, encoder_depth=1, decoder_width=width, decoder_depth=2
    )
    frames = network.frames(10 * hop)
    linear, block = hop * channels, 7 * width + 2 * width * hidden
    there = linear + 2 * hop * width + block + width * 2 * channels
    back = linear + 7 * channels * width + 2 * block + width * 3 * hop
    *rows, last = codec_summary(network, 1, 10 * hop, 10 * hop).text.splitlines()
    assert last == (
        f"one crop of {10 * hop} samples: {2 * frames * there / 1e9:.3g} GFLOP to encode, "
        f"{2 * frames * back / 1e9:.3g} GFLOP (a product and sum are 2) to decode"
    )
    assert rows[-1].split() == ["all", f"{parameters(network):,}"]
