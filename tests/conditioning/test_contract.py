"""What every mechanism must do in every network, alone and with every other.

They are those of `conf/conditioning/*.yaml`; `build` makes a small DiT and a small U-Net in turn.
"""

from __future__ import annotations

import pytest
import torch

from glissando.condition import Condition, Local, Sequence, Vector
from glissando.networks.transformer import TransformerBlock
from glissando.networks.unet_blocks import UNetBlock

SHAPES = {"1d": ((2, 4, 1, 11), (1, 2)), "2d": ((2, 4, 6, 7), (2, 3))}  # patches do not divide


def finite_with_all_gradients(network, shape, condition, masked=True):
    z = torch.randn(shape)
    mask = torch.ones(shape[0], shape[-1], dtype=torch.bool)
    mask[1, -3:] = False
    out = network(z, torch.rand(shape[0]), condition, mask if masked else None)
    assert out.shape == z.shape
    assert out.isfinite().all()
    (out - torch.randn(shape)).square().mean().backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("dimension", SHAPES)
def test_alone(lab, build, preset, dimension):
    shape, patch = SHAPES[dimension]
    network = lab.stir(build(preset, patch=patch))
    finite_with_all_gradients(network, shape, lab.condition())


@pytest.mark.parametrize("dimension", SHAPES)
def test_every_pair(lab, build, pair, dimension):
    """With a control beside the text where one can be carried, over every point of the latent."""
    shape, patch = SHAPES[dimension]
    known = dict(lab.condition())
    if "channel_concat" in pair:
        known["control"] = Local(torch.randn(shape[0], 3, *shape[2:]))
    condition = Condition(known)
    network = lab.stir(build(*pair, sizes=condition.sizes, patch=patch))
    finite_with_all_gradients(network, shape, condition)
    read = {name for m in network.mechanisms.values() for name in m.reads} - {"noise"}
    assert "control" in read or "channel_concat" not in pair
    with torch.no_grad():
        z, noise = torch.randn(shape), torch.rand(shape[0])
        before = network(z, noise, condition)
        for name in read:
            other = condition[name].each(lambda x: x if x.dtype == torch.bool else x.flip(0, -1))
            after = network(z, noise, Condition({**condition, name: other}))
            assert not torch.allclose(before, after), name


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("dit", {"kv_heads": 1, "rotary_dim": 8, "end_convs": True, "input_gate": True}),
        ("unet", {"positions": False, "skip_scale": 0.7, "embedding": 8, "attention": [0, 1]}),
    ],
)
def test_all_at_once_with_every_option(lab, kind, options):
    names = ["adaln_zero", "film", "prefix", "cross_attention", "channel_concat"]
    more = {"qk_norm": True, "gated": False, "share_noise": True, "checkpointing": True}
    build = getattr(lab, kind)
    network = lab.stir(build(*names, patch=(1, 2), norm_gain=True, **options, **more))
    finite_with_all_gradients(network, (2, 4, 1, 9), lab.condition())


def test_checkpointing_recomputes_every_block_and_changes_no_gradient(lab, build):
    names = ["adaln_zero", "film", "adaln_single", "prefix", "cross_attention", "channel_concat"]
    z, noise, condition = torch.randn(2, 4, 1, 6), torch.rand(2), lab.condition()

    def gradients(checkpointing: bool) -> tuple[list[torch.Tensor | None], int, int]:
        network = lab.stir(build(*names, checkpointing=checkpointing))
        blocks = [m for m in network.modules() if isinstance(m, (TransformerBlock, UNetBlock))]
        calls = []
        for block in blocks:
            block.register_forward_pre_hook(lambda *call: calls.append(call[0]))
        network(z, noise, condition).square().sum().backward()
        return [p.grad for p in network.parameters()], len(calls), len(blocks)

    kept, once, blocks = gradients(False)
    recomputed, twice, _ = gradients(True)
    assert once == blocks > 1
    assert twice == 2 * blocks
    for a, b in zip(kept, recomputed, strict=True):
        torch.testing.assert_close(a, b)


def test_a_new_network_predicts_zero(lab, build, preset):
    z = torch.randn(2, 4, 1, 6)
    assert not build(preset)(z, torch.rand(2), lab.condition()).any()


def test_every_parameter_learns_from_the_zero_start(lab, build, preset):
    """Zeros open one after the other: the last projection, then gates, then what they gate."""
    network, condition = build(preset), lab.condition()
    start = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2, weight_decay=0.0)
    z, noise, target = torch.randn(2, 4, 1, 12), torch.rand(2), torch.randn(2, 4, 1, 12)
    for _ in range(3):
        optimizer.zero_grad()
        (network(z, noise, condition) - target).square().mean().backward()
        optimizer.step()
    assert not [name for name, p in network.named_parameters() if torch.equal(p, start[name])]


def test_unconditional(lab, build, mechanism):
    network = lab.stir(build(mechanism, sizes={}))
    finite_with_all_gradients(network, (2, 4, 1, 6), Condition())


def test_every_entry_that_is_read_changes_the_output_and_so_does_the_noise_level(
    lab, build, preset
):
    network = lab.stir(build(preset)).eval()
    z, noise, condition = torch.randn(2, 4, 1, 6), torch.rand(2), lab.condition()
    read = {name for m in network.mechanisms.values() for name in m.reads}
    with torch.no_grad():
        before = network(z, noise, condition)
        assert not torch.allclose(before, network(z, noise + 0.5, condition))
        for name in read - {"noise"}:
            other = {**condition, name: lab.condition(seed=1)[name]}
            assert not torch.allclose(before, network(z, noise, Condition(other))), name


def test_padded_text_cannot_change_the_output(lab, build, preset):
    network = lab.stir(build(preset)).eval()
    z, noise, condition = torch.randn(2, 4, 1, 6), torch.rand(2), lab.condition()

    def filled(entry):
        if not isinstance(entry, Sequence):
            return entry
        return Sequence(torch.where(entry.mask[..., None], entry.value, 1e4), entry.mask)

    def longer(entry):
        return entry.pad(17) if isinstance(entry, Sequence) else entry

    with torch.no_grad():
        before = network(z, noise, condition)
        after = network(z, noise, Condition({n: filled(e) for n, e in condition.items()}))
        assert torch.equal(before, after)
        after = network(z, noise, Condition({n: longer(e) for n, e in condition.items()}))
        torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)


def test_what_pads_the_latent_cannot_change_its_real_part(lab, build, preset):
    network = lab.stir(build(preset, patch=(1, 3))).eval()
    z, noise, condition = torch.randn(2, 4, 1, 10), torch.rand(2), lab.condition()
    mask = torch.arange(16)[None] < torch.tensor([10, 10])[:, None]
    with torch.no_grad():
        alone = network(z, noise, condition)
        for garbage in (100 * torch.randn(2, 4, 1, 6), torch.full((2, 4, 1, 6), torch.nan)):
            padded = torch.cat([z, garbage], dim=-1)
            out = network(padded, noise, condition, mask)
            torch.testing.assert_close(out[..., :10], alone, atol=1e-5, rtol=1e-5)
            assert not out[..., 10:].any()


@pytest.mark.parametrize("name", ["cross_attention", "prefix", "stable_audio"])
def test_the_order_of_tokens_plays_no_part(lab, build, name):
    network = lab.stir(build(name)).eval()
    z, noise, condition = torch.randn(2, 4, 1, 6), torch.rand(2), lab.condition()
    text, order = condition["text"], torch.tensor([3, 0, 4, 2, 1])
    shuffled = Sequence(text.value[:, order], text.mask[:, order])
    with torch.no_grad():
        before = network(z, noise, condition)
        after = network(z, noise, Condition({**condition, "text": shuffled}))
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)


def test_no_text_at_all_is_finite(lab, build, preset):
    condition = lab.condition()
    bare = {
        n: Sequence(e.value, torch.zeros_like(e.mask)) if isinstance(e, Sequence) else e
        for n, e in condition.items()
    }
    network = lab.stir(build(preset))
    out = network(torch.randn(2, 4, 1, 6), torch.rand(2), Condition(bare))
    out.sum().backward()
    assert out.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_bfloat16_autocast_stays_close(lab, build, preset):
    network = lab.stir(build(preset, qk_norm=True)).eval()
    z, noise, condition = torch.randn(2, 4, 1, 8), torch.rand(2), lab.condition()
    with torch.no_grad():
        full = network(z, noise, condition)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(z, noise, condition)
    assert half.dtype == torch.float32
    assert (half - full).norm() < 0.05 * full.norm()


def test_a_network_wholly_in_bfloat16_runs(lab, build, preset):
    network = lab.stir(build(preset, qk_norm=True)).to(torch.bfloat16)
    z = torch.randn(2, 4, 1, 8, dtype=torch.bfloat16)
    out = network(z, torch.rand(2), lab.condition().move(dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16
    assert out.isfinite().all()


def test_joint_dropout_makes_clips_equal_to_the_null(lab, build, preset):
    network = lab.stir(build(preset)).eval()
    z, noise = torch.randn(2, 4, 1, 6), torch.rand(2)
    condition, null = lab.condition(seed=0), lab.condition(seed=1)
    with torch.no_grad():
        dropped = network(z, noise, condition.where(torch.tensor([True, False]), null))
        whole, none = network(z, noise, condition), network(z, noise, null)
    torch.testing.assert_close(dropped, torch.stack([whole[0], none[1]]), atol=1e-5, rtol=1e-5)


def test_a_time_aligned_control_enters_by_channels(lab, build):
    control = Condition(
        {"control": Local(torch.randn(2, 3, 1, 9)), "text_pooled": Vector(torch.randn(2, 5))}
    )
    network = lab.stir(build("adaln_zero", "channel_concat", sizes=control.sizes)).eval()
    finite_with_all_gradients(network, (2, 4, 2, 9), control)
    with pytest.raises(ValueError, match=r"\(1, 9\) rows and frames, the latent \(2, 8\)"):
        network(torch.randn(2, 4, 2, 8), torch.rand(2), control)
    tall = Condition({**control, "control": Local(torch.randn(2, 3, 3, 9))})
    with pytest.raises(ValueError, match=r"\(3, 9\) rows and frames, the latent \(2, 9\)"):
        network(torch.randn(2, 4, 2, 9), torch.rand(2), tall)


def test_an_entry_that_is_not_what_was_announced_is_refused(lab, build, mechanism):
    network, known = build(mechanism), lab.condition()
    z, noise = torch.randn(2, 4, 1, 6), torch.rand(2)
    for name in [name for name in network.mechanisms[mechanism].reads if name != "noise"]:
        entry, rest = known[name], {other: known[other] for other in known if other != name}
        longer = torch.cat([entry.value, entry.value[..., :1]], dim=-1)
        other = Vector(longer) if isinstance(entry, Vector) else Sequence(longer, entry.mask)
        line = rf"{mechanism} was built for '{name}' as a \w+ of {entry.dim} .* of {other.dim}"
        with pytest.raises(ValueError, match=line):
            network(z, noise, Condition({**rest, name: other}))
        with pytest.raises(ValueError, match=rf"'{name}' as a \w+ of .*, not a Local of"):
            network(z, noise, Condition({**rest, name: Local(torch.zeros(2, entry.dim, 1, 6))}))
        with pytest.raises(KeyError, match=f"no entry '{name}'"):
            network(z, noise, Condition(rest))
    with pytest.raises(ValueError, match="disagree on the batch size"):
        network(z, noise, lab.condition(batch=3))
