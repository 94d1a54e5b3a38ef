"""The DiT itself: positions, patches, options, sizes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from glissando.condition import Condition, Sequence, Size, Vector
from glissando.conditioning.adaln import AdaLNZero
from glissando.conditioning.cross_attention import CrossAttention
from glissando.conditioning.prefix import PooledPrefix
from glissando.errors import UserError
from glissando.networks.attention import Rotary, SelfAttention, rotary, rotate
from glissando.networks.dit import DiT, patch_for
from glissando.networks.layers import FeedForward, FourierFeatures

CONF = Path(__file__).parents[2] / "conf" / "model"
PRESETS = sorted(path.stem for path in CONF.glob("dit*.yaml"))
SIZES = {"text_pooled": Size(Vector, 384), "text": Size(Sequence, 384)}
CPU = torch.device("cpu")


def dit(channels: int = 4, **options) -> DiT:
    torch.manual_seed(0)
    mechanisms = {"adaln_zero": partial(AdaLNZero, reads=["noise"])}
    small = {"width": 32, "depth": 2, "heads": 2, "noise_dim": 16}
    network = DiT(channels, {}, mechanisms, **{**small, **options})
    with torch.no_grad():  # off the zero start, where everything is the identity
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def preset(name: str, conditioning: dict, channels: int = 64) -> DiT:
    """`conf/model/<name>.yaml` over the `dit.yaml` that it names, on the meta device."""
    model = OmegaConf.merge(*(OmegaConf.load(CONF / f"{n}.yaml").model for n in ("dit", name)))
    model.patch = model.patch or list(patch_for(channels, 1))
    with torch.device("meta"):
        return instantiate(model)(channels, SIZES, conditioning)


def count(network: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds(name):
    both = {
        "adaln_zero": partial(AdaLNZero, reads=["noise", "text_pooled"]),
        "cross_attention": partial(CrossAttention, reads=["text"]),
    }
    network = preset(name, both)
    assert network(
        torch.zeros(1, 64, 1, 5, device="meta"),
        torch.zeros(1, device="meta"),
        Condition(
            {
                "text_pooled": Vector(torch.zeros(1, 384, device="meta")),
                "text": Sequence(
                    torch.zeros(1, 3, 384, device="meta"),
                    torch.ones(1, 3, dtype=torch.bool, device="meta"),
                ),
            }
        ),
    ).shape == (1, 64, 1, 5)


def test_sizes_of_the_presets():
    adaln = {"adaln_zero": partial(AdaLNZero, reads=["noise", "text_pooled"])}
    assert count(preset("dit_tiny", adaln)) < 0.3
    assert 7 < count(preset("dit", adaln)) < 8
    # Table 1 of Peebles & Xie 2023: DiT-S 33 M, DiT-B 130 M.
    assert count(preset("dit_small", adaln)) == pytest.approx(33, rel=0.05)
    assert count(preset("dit_base", adaln)) == pytest.approx(130, rel=0.05)


def test_stable_audio_open_has_its_published_size():
    timing = ["seconds_start", "seconds_total"]
    conditioning = {
        "cross_attention": partial(
            CrossAttention,
            reads=["text", *timing],
            context=768,
            kv_heads=12,
            deep=True,
            shared=True,
        ),
        "pooled_prefix": partial(PooledPrefix, reads=["noise", *timing], bias=False),
    }
    sizes = {"text": Size(Sequence, 768), **dict.fromkeys(timing, Size(Vector, 768))}
    model = OmegaConf.merge(
        *(OmegaConf.load(CONF / f"{n}.yaml").model for n in ("dit", "dit_stable_audio_open"))
    )
    with torch.device("meta"):
        network = instantiate(model)(64, sizes, conditioning)
    assert sum(p.numel() for p in network.parameters()) == 1_056_828_544


@pytest.mark.parametrize("patch", [(1, 1), (2, 3), (4, 4), (5, 1)])
@pytest.mark.parametrize("shape", [(2, 4, 1, 7), (2, 4, 5, 6)])
def test_any_patch_fits_any_latent(patch, shape):
    z = torch.randn(shape)
    assert dit(patch=patch)(z, torch.rand(2), Condition()).shape == shape


def test_padding_to_the_patch_is_the_same_as_zeros_in_the_latent():
    network, z, noise = dit(patch=(2, 4)), torch.randn(2, 4, 3, 6), torch.rand(2)
    whole = torch.nn.functional.pad(z, (0, 2, 0, 1))
    torch.testing.assert_close(
        network(z, noise, Condition()), network(whole, noise, Condition())[:, :, :3, :6]
    )


def test_unpatchify_undoes_patchify():
    network, z = dit(patch=(2, 3)), torch.randn(2, 4, 4, 9)
    tokens, grid = network._patchify(z)
    assert tokens.shape == (2, 2 * 3, 4 * 6)
    assert torch.equal(network._unpatchify(tokens, grid), z)


@pytest.mark.parametrize("patch", [(1, 1), (2, 4)])
def test_the_input_gate_multiplies_each_value_of_the_latent(patch):
    network, z, noise = dit(patch=patch, input_gate=True), torch.randn(2, 4, 3, 6), torch.rand(2)
    whole = network(z, noise, Condition())
    factors = []
    assert network.gate is not None
    network.gate.register_forward_hook(lambda _, __, out: factors.append(out))
    network(z, noise, Condition())
    padded = torch.nn.functional.pad(z, (0, 2, 0, 1)) if patch == (2, 4) else z
    let_through = (network._patchify(padded)[0] * factors[0]).detach()
    network.gate = None
    grid = (padded.shape[2] // patch[0], padded.shape[3] // patch[1])
    added = network._unpatchify(let_through, grid)[:, :, :3, :6]
    torch.testing.assert_close(whole, network(z, noise, Condition()) + added)


def test_what_a_narrow_network_cannot_pass_its_input_gate_can():
    """A velocity at t = 1 is the noise less a constant: 64 values through a width of 8."""
    torch.manual_seed(0)
    spec = {"adaln_zero": partial(AdaLNZero, reads=["noise"])}
    left = {}
    for input_gate in (False, True):
        network = DiT(
            16,
            {},
            spec,
            width=8,
            depth=1,
            heads=1,
            patch=(1, 4),
            noise_dim=8,
            input_gate=input_gate,
        )
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        loss = torch.tensor(0.0)
        for _ in range(300):
            z = torch.randn(8, 16, 1, 8)
            loss = (network(z, torch.ones(8), Condition()) - z).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        left[input_gate] = loss.item()
    assert left[False] > 0.8  # at best 8 of 64 directions, and the norm takes one
    assert left[True] < 0.05


@pytest.mark.parametrize("rows", [1, 3])
def test_without_positions_tokens_are_a_set_and_with_them_they_are_not(rows):
    z, noise, order = torch.randn(2, 4, rows, 6), torch.rand(2), torch.tensor([3, 0, 5, 1, 4, 2])
    for positions, same in ((0, True), (None, False)):
        network = dit(rotary_dim=positions)
        before, after = (network(x, noise, Condition()) for x in (z, z[..., order]))
        assert torch.allclose(before[..., order], after, atol=1e-5) is same


def test_rotary_is_multiplication_by_complex_exponentials():
    x, table = torch.randn(1, 1, 7, 8), rotary(1, 7, 0, 8, 1e4, CPU)
    turned = rotate(x, table)
    for position in range(7):
        for pair in range(4):
            z = torch.complex(x[0, 0, position, pair], x[0, 0, position, pair + 4])
            angle = torch.tensor(position * 1e4 ** (-pair / 4))
            wanted = z * torch.polar(torch.tensor(1.0), angle)
            got = torch.complex(turned[0, 0, position, pair], turned[0, 0, position, pair + 4])
            torch.testing.assert_close(got, wanted)


def test_rotary_scores_depend_on_distances_along_both_axes():
    table = rotary(4, 5, 0, 16, 1e4, CPU)
    query, key = torch.randn(16), torch.randn(16)
    q, k = (rotate(x.expand(1, 1, 20, 16), table)[0, 0] for x in (query, key))
    scores = (q @ k.T).view(4, 5, 4, 5)
    torch.testing.assert_close(scores[0, 1, 2, 3], scores[1, 2, 3, 4], atol=1e-5, rtol=1e-5)
    assert not torch.isclose(scores[0, 1, 2, 3], scores[0, 1, 1, 3], atol=1e-3)
    assert not torch.isclose(scores[0, 1, 2, 3], scores[0, 1, 2, 4], atol=1e-3)


def test_partial_rotary_leaves_the_rest_of_a_head():
    x = torch.randn(1, 2, 6, 8)
    turned = rotate(x, rotary(1, 6, 0, 4, 1e4, CPU))
    assert torch.equal(turned[..., 4:], x[..., 4:])
    assert not torch.equal(turned[..., :4], x[..., :4])


def test_the_gradient_of_a_turn_is_the_turn_back():
    x = torch.randn(2, 2, 6, 10, dtype=torch.float64, requires_grad=True)
    table = Rotary(*(each.double() for each in rotary(1, 6, 0, 8, 1e4, CPU)))
    assert torch.autograd.gradcheck(lambda y: rotate(y, table), x)
    assert torch.autograd.gradgradcheck(lambda y: rotate(y, table), x)


def test_a_turn_in_bfloat16_rounds_once():
    table = rotary(1, 6, 0, 8, 1e4, CPU)
    x = torch.randn(2, 2, 6, 10).bfloat16()
    turned = rotate(x, table)
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, rotate(x.float(), table).bfloat16())


def test_prefix_tokens_share_one_position_and_the_latent_follows():
    table = rotary(1, 3, 2, 4, 1e4, CPU)
    torch.testing.assert_close(table.sin[:, 0], torch.tensor([0.0, 0, 1, 2, 3]).sin())


def test_positions_made_while_sampling_serve_in_training():
    rotary.cache_clear()
    with torch.inference_mode():
        dit()(torch.randn(1, 4, 1, 5), torch.rand(1), Condition())
    dit()(torch.randn(1, 4, 1, 5), torch.rand(1), Condition()).sum().backward()


def test_self_attention_is_torchs_own():
    ours = SelfAttention(32, 4)
    theirs = torch.nn.MultiheadAttention(32, 4, bias=False, batch_first=True)
    theirs.load_state_dict(
        {"in_proj_weight": ours.query_key_value.weight, "out_proj.weight": ours.out.weight}
    )
    x, mask = torch.randn(2, 6, 32), torch.arange(6)[None] < torch.tensor([6, 4])[:, None]
    torch.testing.assert_close(ours(x, None, mask), theirs(x, x, x, key_padding_mask=~mask)[0])


def test_fewer_key_value_heads_equal_repeated_ones():
    few, many = SelfAttention(32, 4, kv_heads=2, qk_norm=True), SelfAttention(32, 4, qk_norm=True)
    query, key, value = few.query_key_value.weight.split([32, 16, 16])
    repeated = [w.view(2, 8, 32).repeat_interleave(2, 0).flatten(0, 1) for w in (key, value)]
    many.load_state_dict(
        {**few.state_dict(), "query_key_value.weight": torch.cat([query, *repeated])}
    )
    x, table = torch.randn(2, 6, 32), rotary(1, 6, 0, 8, 1e4, CPU)
    torch.testing.assert_close(few(x, table, None), many(x, table, None))


def test_checkpointing_changes_no_gradient():
    def gradients(checkpointing):
        network, z = dit(checkpointing=checkpointing), torch.linspace(-1, 1, 40).view(2, 4, 1, 5)
        network(z, torch.tensor([0.2, 0.7]), Condition()).square().sum().backward()
        return [parameter.grad for parameter in network.parameters()]

    for kept, recomputed in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(kept, recomputed)


def test_attended_padding_lets_padding_through():
    z, noise = torch.randn(1, 4, 1, 6), torch.rand(1)
    mask, other = torch.tensor([[True] * 4 + [False] * 2]), z.clone()
    other[..., 4:] += 1
    network = dit(attend_padding=True)
    before, after = (network(x, noise, Condition(), mask) for x in (z, other))
    assert not torch.allclose(before, after)


def test_swiglu_and_gelu_are_their_formulas():
    x = torch.randn(2, 3, 8)
    swiglu, gelu = FeedForward(8, 2), FeedForward(8, 2, gated=False)
    value, gate = swiglu.up(x).chunk(2, -1)
    torch.testing.assert_close(swiglu(x), swiglu.down(value * gate * gate.sigmoid()))
    wanted = gelu.down(torch.nn.GELU(approximate="tanh")(gelu.up(x)))
    torch.testing.assert_close(gelu(x), wanted)


def test_fourier_features():
    features = FourierFeatures(6)
    x = torch.tensor([0.0, 0.3])
    angle = 2 * torch.pi * x[:, None] * features.weight
    torch.testing.assert_close(features(x), torch.cat([angle.cos(), angle.sin()], 1))
    assert features(x)[0].tolist() == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 30, "heads": 4}, r"model.width=30 is not divisible by model.heads=4"),
        ({"kv_heads": 3}, "kv_heads=3"),
        ({"kv_heads": 0}, "kv_heads=0"),
        ({"patch": (0, 1)}, r"model.patch=\[0, 1\]"),
        ({"patch": (2,)}, r"model.patch=\[2\]"),
        ({"rotary_dim": 3}, "model.rotary_dim=3"),
        ({"rotary_dim": 18}, "at most 16"),
        ({"noise_dim": 7}, "model.noise_dim=7"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        dit(**options)
