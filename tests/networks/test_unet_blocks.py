"""What the U-Net is made of, against other implementations at equal weights."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from glissando.condition import Size, Vector
from glissando.conditioning.adaln import AdaLN
from glissando.conditioning.base import Tokens
from glissando.networks.attention import SelfAttention, rotary
from glissando.networks.branch import Branch, ModulatedNorm
from glissando.networks.unet_blocks import Conv, Convolutions, Up, coarser, unit_variance


class AtEachPoint(nn.Module):
    """A norm of maps with features last, on maps (B, C, H, W)."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


def test_the_residual_block_is_that_of_diffusers():
    from diffusers.models.resnet import ResnetBlock2D

    norms = [nn.LayerNorm(8, elementwise_affine=False) for _ in range(2)]
    inner = Convolutions(8, (3, 3), norms[1])
    ours = Branch(inner, ModulatedNorm(norms[0], 8, {}, "convolutions"))
    theirs = ResnetBlock2D(in_channels=8, temb_channels=None, groups=1, non_linearity="silu")
    theirs.norm1, theirs.norm2 = map(AtEachPoint, norms)
    theirs.conv1.load_state_dict(inner.first.conv.state_dict())
    theirs.conv2.load_state_dict(inner.second.conv.state_dict())
    x = torch.randn(2, 5, 6, 8)
    wanted = theirs(x.movedim(-1, 1), None).movedim(1, -1)
    torch.testing.assert_close(ours(x, {}, None), wanted)


def test_a_modulated_residual_block_is_the_formula():
    """x + gate f(norm(x)(1 + scale) + shift)."""
    mechanism = AdaLN({"noise": Size(Vector, 3)}, ["noise"], width=6)
    norm = nn.LayerNorm(8, elementwise_affine=False)
    inner = Convolutions(8, (1, 3), norm)
    branch = Branch(inner, ModulatedNorm(norm, 8, {"adaln": mechanism}, "convolutions"))
    x, signal = torch.randn(2, 1, 7, 8), torch.randn(2, 6)
    made = branch.norm.modulations["adaln"](signal)
    shift, scale, gate = (part[:, None, None] for part in made)
    wanted = x + gate * inner(norm(x) * (1 + scale) + shift, None)
    torch.testing.assert_close(branch(x, {"adaln": signal}, None), wanted)


def test_the_way_down_contains_that_of_diffusers():
    """Its kernel of 3 at stride 2, as the left part of ours of 4 that sees both inputs alike."""
    from diffusers.models.downsampling import Downsample2D

    theirs, ours = Downsample2D(6, use_conv=True, out_channels=9), Conv(6, 9, (3, 3), (2, 2))
    with torch.no_grad():
        ours.conv.weight.zero_()
        ours.conv.weight[..., :3, :3] = theirs.conv.weight
        ours.conv.bias.copy_(theirs.conv.bias)
    x = torch.randn(2, 8, 10, 6)
    wanted = theirs(x.movedim(-1, 1)).movedim(1, -1)
    torch.testing.assert_close(ours(x, None), wanted)


def test_the_way_up_contains_that_of_diffusers():
    """Nearest neighbour, then a convolution of 3, is a transposed one of 4 along each axis."""
    from diffusers.models.upsampling import Upsample2D

    theirs, ours = Upsample2D(6, use_conv=True, out_channels=9), Up(6, 9, (3, 3), (2, 2))
    # Output 2i + p of axis x: taps p - 1, p, p + 1 of the repeated input, which are cells i - 1 to
    # i + 1. Tap k of the transpose puts cell i at 2i + k - 1.
    spread = torch.tensor([[0.0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])
    with torch.no_grad():
        weight = torch.einsum("oihw,kh,lw->iokl", theirs.conv.weight, spread, spread)
        ours.conv.weight.copy_(weight)
        ours.conv.bias.copy_(theirs.conv.bias)
    x = torch.randn(2, 4, 5, 6)
    wanted = theirs(x.movedim(-1, 1)).movedim(1, -1)
    torch.testing.assert_close(ours(x, None, 8, 10), wanted)


@pytest.mark.parametrize("factor", [(1, 1), (1, 2), (2, 3), (1, 4)])
def test_up_is_the_transpose_of_down(factor):
    """<y, down(x)> = <up(y), x> with the same weights and no offset."""
    down, up = Conv(3, 5, (3, 3), factor), Up(5, 3, (3, 3), factor)
    with torch.no_grad():
        up.conv.weight.copy_(down.conv.weight)
        down.conv.bias.zero_()
        up.conv.bias.zero_()
    x, y = torch.randn(1, 6, 12, 3), torch.randn(1, 6 // factor[0], 12 // factor[1], 5)
    torch.testing.assert_close((y * down(x, None)).sum(), (up(y, None, 6, 12) * x).sum())


@pytest.mark.parametrize("factor", [(1, 1), (2, 4)])
def test_every_input_is_seen_by_its_own_cell(factor):
    """Also at factor 4, where a stride with a kernel of 3 would step over inputs."""
    down = Conv(1, 1, (3, 3), factor)
    nn.init.ones_(down.conv.weight)
    x = torch.zeros(1, 4, 8, 1, requires_grad=True)
    for row in range(4 // factor[0]):
        for column in range(8 // factor[1]):
            (seen,) = torch.autograd.grad(down(x, None)[0, row, column, 0], x)
            cell = seen[0, row * factor[0] :, column * factor[1] :]
            assert (cell[: factor[0], : factor[1]] == 1).all()


def test_a_mask_gets_coarser():
    mask = torch.tensor([[True] * 5 + [False] * 2, [True] + [False] * 6])
    assert coarser(mask, 2).tolist() == [[True, True, True, False], [True, False, False, False]]
    assert coarser(mask, 4).tolist() == [[True, True], [True, False]]
    assert coarser(mask, 1) is mask
    assert coarser(None, 4) is None


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(300, 200), (40, 300)),
        (nn.Conv2d(60, 50, (1, 3), padding=(0, 1)), (2, 60, 1, 200)),
        (nn.Conv2d(40, 50, (4, 5), stride=(2, 3)), (4, 40, 30, 62)),
        (nn.ConvTranspose2d(60, 50, (1, 6), stride=(1, 4), padding=(0, 1)), (4, 60, 1, 100)),
    ],
)
def test_unit_variance(layer, shape):
    torch.manual_seed(0)
    out = unit_variance(layer)(torch.randn(shape))
    assert out.var().item() == pytest.approx(1, rel=0.1)
    assert out.mean().abs() < 0.1


def test_a_prefix_is_more_keys_and_values():
    """As torch's attention with the tokens' own row as queries alone."""
    ours = SelfAttention(32, 4)
    theirs = nn.MultiheadAttention(32, 4, bias=False, batch_first=True)
    theirs.load_state_dict(
        {"in_proj_weight": ours.query_key_value.weight, "out_proj.weight": ours.out.weight}
    )
    x, text = torch.randn(2, 6, 32), torch.randn(2, 3, 32)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    real = torch.tensor([[True, True, False], [True] * 3])
    both, keys = torch.cat([text, x], 1), torch.cat([real, mask], 1)
    for m, r, every in [(mask, real, keys), (None, None, None)]:
        wanted, _ = theirs(x, both, both, key_padding_mask=None if every is None else ~every)
        torch.testing.assert_close(ours(x, None, m, Tokens(text, r)), wanted)
    wanted, _ = theirs(x, both, both, key_padding_mask=~torch.cat([real | True, mask], 1))
    torch.testing.assert_close(ours(x, None, mask, Tokens(text)), wanted)


def test_prefix_tokens_are_a_set_that_stands_before_the_first_frame():
    """With positions: the prefix at 0 and the latent from 1, as in a DiT's sequence."""
    attention = SelfAttention(32, 4)
    x, text = torch.randn(1, 6, 32), torch.randn(1, 3, 32)
    make = partial(rotary, 1, 6, dim=8, base=1e4, device=torch.device("cpu"))
    table = make(prefix=3)
    out = attention(x, table, None, Tokens(text))
    whole = attention(torch.cat([text, x], 1), table, None)
    torch.testing.assert_close(out, whole[:, 3:])
    torch.testing.assert_close(attention(x, table, None, Tokens(text[:, [2, 0, 1]])), out)
