"""The U-Net itself: its sizes, levels, skips, padding and start."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from glissando.condition import Condition, Sequence, Size, Vector
from glissando.conditioning.adaln import AdaLNZero
from glissando.conditioning.channel_concat import ChannelConcat
from glissando.conditioning.cross_attention import CrossAttention
from glissando.conditioning.film import FiLM
from glissando.conditioning.prefix import Prefix
from glissando.errors import UserError
from glissando.networks.summary import parameters
from glissando.networks.unet import UNet
from glissando.networks.unet_blocks import UNetBlock

CONF = Path(__file__).parents[2] / "conf" / "model"
SIZES = {"text_pooled": Size(Vector, 384), "text": Size(Sequence, 384)}
KINDS = {
    "adaln_zero": AdaLNZero, "film": FiLM, "prefix": Prefix,
    "cross_attention": CrossAttention, "channel_concat": ChannelConcat,
}  # fmt: skip


def unet(*names: str, channels: int = 4, sizes=None, stir: bool = True, **options) -> UNet:
    torch.manual_seed(0)
    reads = ["noise", "text_pooled", "text"]
    mechanisms = {name: partial(KINDS[name], reads=reads) for name in names or ["adaln_zero"]}
    small = {"width": 16, "multiples": [1, 2], "depth": 1, "heads": 2, "noise_dim": 16}
    options = {**small, "attention": [1], **options}
    network = UNet(channels, {} if sizes is None else sizes, mechanisms, **options)
    if stir:  # off the zero start, where everything is the identity
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def preset(name: str, *names: str, text: int = 384) -> UNet:
    """`conf/model/<name>.yaml` over the `unet.yaml` that it names, on the meta device."""
    model = OmegaConf.merge(*(OmegaConf.load(CONF / f"{n}.yaml").model for n in ("unet", name)))
    reads = ["noise", "text_pooled", "text"]
    mechanisms = {each: partial(KINDS[each], reads=reads) for each in names}
    with torch.device("meta"):
        return instantiate(model)(64, {**SIZES, "text": Size(Sequence, text)}, mechanisms)


@pytest.mark.parametrize(
    ("name", "mechanisms", "millions"),
    [
        ("unet_tiny", ["adaln_zero"], 0.173),
        ("unet", ["adaln_zero"], 8.4),
        ("unet", ["adaln_zero", "cross_attention"], 9.7),
        ("unet_base", ["adaln_zero"], 117),
    ],
)
def test_sizes_of_the_presets(name, mechanisms, millions):
    assert parameters(preset(name, *mechanisms)) / 1e6 == pytest.approx(millions, rel=0.02)


@pytest.mark.parametrize(
    ("name", "mechanisms", "published"),
    [
        ("unet_audioldm", ["film"], 181),  # Liu et al. 2023, table 1
        ("unet_riffusion", ["film", "cross_attention"], 860),
        ("unet_stable_audio_1", ["film", "cross_attention"], 907),  # Evans et al. 2024
    ],
)
def test_published_families_have_about_their_size(name, mechanisms, published):
    network = preset(name, *mechanisms, text=768)
    assert parameters(network) / 1e6 == pytest.approx(published, rel=0.08)


def test_stable_audio_1_has_its_published_levels():
    network = preset("unet_stable_audio_1", "film", "cross_attention")
    assert [level.width for level in network.levels] == [1024, 1024, 1280, 1280]
    assert network.factors == [(1, 1), (1, 2), (1, 2), (1, 4)]


@pytest.mark.parametrize(
    "factor", [(1, 2), (2, 2), (3, 5), [(1, 1), (1, 4)], [(2, 3), (1, 2)], [(4, 1), (2, 7)]]
)
@pytest.mark.parametrize("shape", [(2, 4, 1, 7), (2, 4, 5, 6), (1, 4, 1, 1)])
def test_any_factor_fits_any_latent(factor, shape):
    z = torch.randn(shape)
    out = unet(factor=factor, kernel=(3, 3))(z, torch.rand(shape[0]), Condition())
    assert out.shape == shape
    assert out.isfinite().all()


@pytest.mark.parametrize("names", [["adaln_zero"], ["prefix"], ["channel_concat"]])
@pytest.mark.parametrize(("rows", "factor", "kernel"), [(1, (1, 2), (1, 3)), (5, (2, 3), (3, 5))])
@pytest.mark.parametrize("frames", [1, 5, 11])
def test_padding_of_any_length_changes_nothing(names, rows, factor, kernel, frames):
    """In float64: a clip alone, and the same among longer ones with garbage behind it."""
    network = unet(*names, multiples=[1, 2, 2], attention=[0, 1], factor=factor, kernel=kernel)
    network, noise = network.double(), torch.rand(2, dtype=torch.float64)
    z = torch.randn(2, 4, rows, frames, dtype=torch.float64)
    alone = network(z, noise, Condition())
    for length in (frames, frames + 1, frames + 6):
        mask = (torch.arange(length) < frames).expand(2, -1)
        for garbage in (1e3 * torch.randn(2, 4, rows, length - frames).double(), torch.nan):
            padded = torch.full((2, 4, rows, length), 0.0, dtype=torch.float64)
            padded[..., :frames], padded[..., frames:] = z, garbage
            out = network(padded, noise, Condition(), mask)
            torch.testing.assert_close(out[..., :frames], alone, atol=1e-12, rtol=1e-12)
            assert not out[..., frames:].any()


def test_clips_of_a_batch_may_differ_in_length():
    network, z, noise = unet("film"), torch.randn(3, 4, 1, 13), torch.rand(3)
    lengths = torch.tensor([13, 6, 1])
    both = network(z, noise, Condition(), torch.arange(13) < lengths[:, None])
    for row, length in enumerate(lengths.tolist()):
        one = slice(row, row + 1)
        alone = network(z[one, ..., :length], noise[one], Condition())
        torch.testing.assert_close(both[one, ..., :length], alone, atol=1e-5, rtol=1e-5)


def test_a_hole_in_a_clip_is_not_seen_either():
    network, z, noise = unet(), torch.randn(1, 4, 1, 12), torch.rand(1)
    mask = torch.ones(1, 12, dtype=torch.bool)
    mask[:, 4:7] = False
    other = torch.where(mask[:, None, None], z, 50.0)
    before, after = (network(x, noise, Condition(), mask) for x in (z, other))
    assert torch.equal(before, after)


def test_a_padded_clip_has_finite_gradients():
    network = unet("prefix")
    z, mask = torch.randn(2, 4, 1, 8), torch.tensor([[True] * 8, [False] * 8])
    network(z, torch.rand(2), Condition(), mask).square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("options", [{}, {"kernel": (3, 3), "factor": (2, 2), "expansion": 2}])
def test_zero_initialized_blocks_start_as_the_identity(options):
    network = unet("adaln_zero", "cross_attention", sizes=SIZES, stir=False, **options)
    text = Sequence(torch.randn(2, 3, 384), torch.ones(2, 3, dtype=torch.bool))
    known = Condition({"text_pooled": Vector(torch.randn(2, 384)), "text": text})
    signals = network.read(torch.rand(2), known)
    level = network.levels[1]
    x = torch.randn(2, 2, 5, 32)
    scene = level.scene(x, None, signals, positions=True)
    for block in [*level.encoder, *level.decoder, *network.middle]:
        assert isinstance(block, UNetBlock)
        assert torch.equal(block(x, signals, scene), x)


@pytest.mark.parametrize("name", list(KINDS))
def test_a_new_network_keeps_the_variance_of_its_stream(name):
    network = unet(name, stir=False, channels=32, width=32, multiples=[1, 2, 3], depth=2, heads=4)
    seen: list[float] = []
    for level in network.levels:
        for block in [*level.encoder, *level.decoder]:
            block.register_forward_hook(lambda *call: seen.append(call[2].std().item()))
    with torch.no_grad():
        network(torch.randn(4, 32, 1, 64), torch.rand(4), Condition())
    assert len(seen) == 3 * (2 + 3)
    assert min(seen) > 0.7
    assert max(seen) < 1.7


@pytest.mark.parametrize("frames", [12, 9])
def test_a_skip_carries_what_the_levels_below_cannot(frames):
    """Every frame reaches its own output, also where coarser levels say nothing."""
    network, noise = unet(multiples=[1, 1], attention=[], factor=(1, 8)), torch.rand(1)
    with torch.no_grad():
        network.ups[0].conv.weight.zero_()
    z = torch.randn(1, 4, 1, frames, requires_grad=True)
    for frame in range(frames):
        out = network(z, noise, Condition())[..., frame].sum()
        (gradient,) = torch.autograd.grad(out, z)
        assert gradient[..., frame].any()


def test_a_skip_is_scaled():
    """At 0 only the way through the coarser level is left, which a coarse grid blurs."""
    network, noise = unet(multiples=[1, 1], attention=[], skip_scale=0.0), torch.rand(1)
    z = torch.randn(1, 4, 1, 8)
    before = network(z, noise, Condition())
    with torch.no_grad():
        for fusion in network.levels[0].fusions:
            fusion.weight[:, 16:].normal_()  # what reads the skip
    assert torch.equal(network(z, noise, Condition()), before)
    network.skip_scale = 1.0
    assert not torch.allclose(network(z, noise, Condition()), before, atol=1e-3)


def test_time_is_seen_beyond_the_convolutions_only_through_attention():
    """The middle attends to all frames, whatever `attention` says."""
    network, noise = unet(attention=[], multiples=[1, 1], factor=(1, 2)), torch.rand(1)
    z, far = torch.randn(1, 4, 1, 64), torch.zeros(1, 4, 1, 64)
    far[..., -1] = 1
    reached = (network(z + far, noise, Condition()) - network(z, noise, Condition())).abs()
    assert reached[..., 0].max() > 1e-6
    with torch.no_grad():
        network.middle[0].transformer.attention.inner.out.weight.zero_()
    reached = (network(z + far, noise, Condition()) - network(z, noise, Condition())).abs()
    assert not reached[..., 0].any()


def test_checkpointing_changes_no_gradient():
    def gradients(checkpointing):
        network, z = unet(checkpointing=checkpointing), torch.linspace(-1, 1, 40).view(2, 4, 1, 5)
        network(z, torch.tensor([0.2, 0.7]), Condition()).square().sum().backward()
        return [parameter.grad for parameter in network.parameters()]

    for kept, recomputed in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(kept, recomputed)


def test_nothing_of_size_n_by_n_is_made():
    """Masked or not, no tensor has a square of the tokens' number for its last two dimensions."""
    network = unet("prefix", multiples=[1, 1], attention=[0])
    made: list[tuple[int, ...]] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            made.extend(tuple(x.shape) for x in torch.utils._pytree.tree_leaves(out)
                        if isinstance(x, torch.Tensor))  # fmt: skip
            return out

    z, noise = torch.randn(2, 4, 1, 97), torch.rand(2)
    mask = torch.arange(97) < torch.tensor([97, 60])[:, None]
    with torch.no_grad(), Watch():
        network(z, noise, Condition())
        network(z, noise, Condition(), mask)
    assert made
    assert not [shape for shape in made if len(shape) > 1 and min(shape[-2:]) >= 97]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 15, "heads": 4}, r"level 1 attends .* 30 .* not divisible by model.heads=4"),
        ({"heads": [2]}, r"model.heads=\[2\] must be a positive number, or one for each of the 2"),
        ({"depth": 0}, r"model.depth=0 must be a positive number"),
        ({"factor": (0, 1)}, r"model.factor=\[0, 1\] must be one pair"),
        ({"factor": [(1, 2)]}, r"model.factor=\[\[1, 2\]\] must be one pair .* the 2 levels"),
        ({"factor": (1, 2, 3)}, r"model.factor=\[1, 2, 3\]"),
        ({"factor": [(1, 1), 2]}, r"model.factor=\[\[1, 1\], 2\]"),
        ({"kernel": (1, 4)}, r"model.kernel=\[1, 4\] must be two odd numbers"),
        ({"kernel": (3,)}, r"model.kernel=\[3\]"),
        ({"attention": [2]}, r"model.attention=\[2\] names a level that is not there.*0 to 1"),
        ({"multiples": []}, r"model.multiples=\[\] and model.width=16 must be positive"),
        ({"noise_dim": 7}, "model.noise_dim=7"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        unet(**options)
