"""What each mechanism computes, against closed forms and other implementations."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as fn

from glissando.condition import Condition, Local, Sequence, Size, Vector
from glissando.conditioning.attend import SHORT, HeadNorm, attend
from glissando.conditioning.base import Tokens
from glissando.conditioning.channel_concat import ChannelConcat, stretch
from glissando.conditioning.cross_attention import CrossAttend
from glissando.errors import UserError


@pytest.mark.parametrize("name", ["adaln_zero", "adaln_single"])
def test_zero_initialized_blocks_start_as_the_identity(lab, name):
    network = lab.dit(name)
    x = torch.randn(2, 6, 32)
    signals = network.read(torch.rand(2), lab.condition())
    for block in network.blocks:
        assert torch.equal(block(x, signals, None, None), x)


def test_adaln_zero_stays_the_identity_with_cross_attention(lab):
    network = lab.dit("adaln_zero", "cross_attention")
    x = torch.randn(2, 6, 32)
    signals = network.read(torch.rand(2), lab.condition())
    assert torch.equal(network.blocks[0](x, signals, None, None), x)


@pytest.mark.parametrize("name", ["adaln", "film", "prefix", "cross_attention", "channel_concat"])
def test_other_blocks_do_not(lab, name):
    network = lab.dit(name)
    signals = network.read(torch.rand(2), lab.condition())
    x = torch.randn(2, 6, 32)
    assert not torch.allclose(network.blocks[0](x, signals, None, None), x, atol=1e-2)


def test_a_modulated_branch_is_the_formula(lab):
    """x + gate f(norm(x)(1 + scale) + shift), Peebles & Xie 2023."""
    network = lab.stir(lab.dit("adaln_zero"))
    branch, x = network.blocks[0].feedforward, torch.randn(2, 6, 32)
    signals = network.read(torch.rand(2), lab.condition())
    linear = branch.norm.modulations["adaln_zero"].linear
    shift, scale, gate = linear(signals["adaln_zero"])[:, None].chunk(3, dim=-1)
    wanted = x + gate * branch.inner(fn.layer_norm(x, (32,)) * (1 + scale) + shift)
    torch.testing.assert_close(branch(x, signals), wanted)


def test_film_has_no_gate(lab):
    network = lab.dit("film")
    signals = network.read(torch.rand(2), lab.condition())
    modulation = network.blocks[0].attention.norm.modulations["film"](signals["film"])
    assert modulation.gate is None
    assert modulation.shift.shape == modulation.scale.shape == (2, 32)


def test_two_modulations_add_shift_and_scale_and_multiply_gates(lab):
    network = lab.stir(lab.dit("adaln", "film"))
    signals = network.read(torch.rand(2), lab.condition())
    norm, x = network.blocks[0].attention.norm, torch.randn(2, 6, 32)
    a, b = (norm.modulations[name](signals[name]) for name in ("adaln", "film"))
    y, gate = norm(x, signals)
    wanted = (
        fn.layer_norm(x, (32,)) * (1 + a.scale + b.scale)[:, None] + (a.shift + b.shift)[:, None]
    )
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(gate[:, 0], a.gate)


def test_adaln_costs_what_is_published_and_adaln_single_far_less(lab):
    def extra(name, depth):
        network = lab.dit(name, depth=depth)
        return sum(p.numel() for p in network.blocks.parameters())

    plain = extra("prefix", 1)
    width = 32
    assert extra("adaln_zero", 1) - plain == 6 * width * width + 6 * width  # with its bias
    assert extra("adaln_single", 1) - plain == 6 * width


def test_a_narrow_embedding_makes_adaln_cheaper(lab):
    specs = lab.specs("adaln_zero")
    specs["adaln_zero"].keywords["embedding"] = 8
    narrow = specs["adaln_zero"](lab.condition().only(["text_pooled"]).sizes, width=32)
    assert narrow.modulation_for(32, "attention").linear.weight.shape == (96, 8)


@pytest.mark.parametrize("rows", [1, 5])
def test_a_control_stands_at_its_own_place(rows):
    mechanism = ChannelConcat({"control": Size(Local, 3)}, ["control"], width=8, each=2)
    z, control = torch.randn(2, 4, 5, 7), torch.randn(2, 3, rows, 7)
    out = mechanism.widen(z, mechanism(Condition({"control": Local(control)})), None)
    layer = mechanism.layers["control"]
    wanted = fn.conv2d(control.expand(-1, -1, 5, -1), layer.weight[..., None, None], layer.bias)
    assert torch.equal(out[:, :4], z)
    torch.testing.assert_close(out[:, 4:], wanted)


@pytest.mark.parametrize(("tokens", "frames"), [(3, 10), (7, 4), (1, 5), (6, 6)])
def test_stretch_is_linear_interpolation(tokens, frames):
    x = torch.randn(2, tokens, 3)
    mask, lengths = torch.ones(2, tokens, dtype=torch.bool), torch.full((2,), frames)
    wanted = fn.interpolate(x.transpose(1, 2), frames, mode="linear").transpose(1, 2)
    torch.testing.assert_close(stretch(x, mask, lengths, frames), wanted)


def test_stretch_uses_real_tokens_over_real_frames():
    x = torch.randn(2, 5, 3)
    mask = torch.tensor([[True, False, True, True, False], [False] * 5])
    out = stretch(x, mask, torch.tensor([6, 6]), 9)
    wanted = fn.interpolate(x[:1, [0, 2, 3]].transpose(1, 2), 6, mode="linear").transpose(1, 2)
    torch.testing.assert_close(out[:1, :6], wanted)
    assert not out[1].any()
    assert not stretch(x[:, :0], mask[:, :0], torch.tensor([6, 6]), 9).any()  # no token at all


def test_head_norm_is_its_formula():
    norm, x = HeadNorm(8), torch.randn(2, 3, 5, 8)
    torch.nn.init.normal_(norm.weight)
    wanted = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight
    torch.testing.assert_close(norm(x), wanted)
    assert norm(x.bfloat16()).dtype == torch.float32


def test_attention_equals_the_formula():
    query, key, value = torch.randn(2, 4, 6, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    mask = torch.tensor([[True, True, False, True, False], [True] * 5])
    keys, values = (x.repeat_interleave(2, dim=1) for x in (key, value))
    scores = (query @ keys.mT / 8**0.5).masked_fill(~mask[:, None, None], -torch.inf)
    wanted = (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attend(query, key, value, mask), wanted)


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("tokens", [6, SHORT // 5 + 1])
def test_attention_in_bfloat16_is_that_in_double_rounded(kv_heads, tokens):
    torch.manual_seed(0)
    query = torch.randn(2, 4, tokens, 8).bfloat16()
    key, value = torch.randn(2, 2, kv_heads, 5, 8).bfloat16()
    mask = torch.tensor([[True, True, False, True, False], [True] * 5])
    for keys in (None, mask):
        got = attend(query, key, value, keys)
        wanted = attend(query.double(), key.double(), value.double(), keys)
        assert got.dtype == torch.bfloat16
        assert (got - wanted).norm() < 0.01 * wanted.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_over_no_keys_is_zero_with_zero_gradients(dtype):
    make = partial(torch.randn, 2, 2, 3, 8, dtype=dtype, requires_grad=True)
    query, key, value = (make() for _ in range(3))
    mask = torch.tensor([[False] * 3, [True] * 3])
    out = attend(query, key, value, mask)
    out.sum().backward()
    assert not out[0].any()
    assert out[1].any()
    assert query.grad is not None
    assert query.grad.isfinite().all()


def test_cross_attention_is_torchs_own():
    torch.manual_seed(0)
    ours = CrossAttend(32, heads=4, context=12, kv_heads=4)
    torch.nn.init.normal_(ours.out.weight)
    theirs = torch.nn.MultiheadAttention(32, 4, bias=False, kdim=12, vdim=12, batch_first=True)
    key, value = ours.key_value.weight.chunk(2)
    theirs.load_state_dict(
        {
            "q_proj_weight": ours.query.weight,
            "k_proj_weight": key,
            "v_proj_weight": value,
            "out_proj.weight": ours.out.weight,
        }
    )
    x, text = torch.randn(2, 7, 32), torch.randn(2, 5, 12)
    mask = torch.tensor([[True, True, True, False, False], [True] * 5])
    wanted, _ = theirs(x, text, text, key_padding_mask=~mask)
    torch.testing.assert_close(ours(x, Tokens(text, mask)), wanted)


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match=r"model.width=30 is not divisible by model.heads=4"):
        CrossAttend(30, 4, 8, 4)
    with pytest.raises(UserError, match="kv_heads=3"):
        CrossAttend(32, 4, 8, 3)


def test_channels_of_no_width_are_refused(lab):
    specs = lab.specs("channel_concat")
    with pytest.raises(UserError, match=r"channel_concat\.each=0"):
        specs["channel_concat"](lab.condition().sizes, width=8, each=0)


def test_one_projection_for_entries_of_different_widths_is_refused(lab):
    sizes = {"text": Size(Sequence, 12), "seconds_total": Size(Vector, 6)}
    build = lab.specs("cross_attention")["cross_attention"]
    with pytest.raises(UserError, match=r"^conditioning\.cross_attention\.shared=true .*one width"):
        build(sizes, width=8, shared=True)


def test_one_projection_is_that_of_every_entry(lab):
    sizes = {"text": Size(Sequence, 12), "seconds_total": Size(Vector, 12)}
    reader = lab.specs("cross_attention")["cross_attention"](sizes, width=8, shared=True)
    assert len(reader.embed.layers) == 1
    vector = torch.randn(2, 12)
    text = Sequence(vector[:, None], torch.ones(2, 1, dtype=torch.bool))
    tokens = reader(Condition({"text": text, "seconds_total": Vector(vector)})).value
    assert torch.equal(tokens[:, 0], tokens[:, 1])
