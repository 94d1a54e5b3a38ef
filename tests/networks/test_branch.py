"""Norms that mechanisms modulate."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from glissando.condition import Condition, Size, Vector
from glissando.conditioning.adaln import AdaLN
from glissando.networks import branch
from glissando.networks.branch import ModulatedNorm


def modulated(norm: nn.Module, width: int) -> tuple[ModulatedNorm, dict[str, Tensor]]:
    mechanism = AdaLN({"noise": Size(Vector, 8)}, ["noise"], width)
    made = ModulatedNorm(norm, width, {"adaln": mechanism}, "attention")
    return made, {"adaln": mechanism(Condition({"noise": Vector(torch.randn(3, 8))})).detach()}


@pytest.mark.parametrize("affine", [(False, False), (True, False), (True, True)])
def test_a_norm_taken_clip_by_clip_is_the_norm_that_is_modulated_afterwards(affine, monkeypatch):
    gain, bias = affine
    norm = nn.LayerNorm(256, 1e-3, elementwise_affine=gain, bias=bias).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    made, signals = modulated(norm, 256)
    made, signals = made.double(), {name: each.double() for name, each in signals.items()}
    x = torch.randn(3, 40, 256, dtype=torch.float64, requires_grad=True)
    grad = torch.randn_like(x)
    results = []
    for by_clip in (True, False):
        if not by_clip:
            monkeypatch.setattr(branch, "_by_clip", lambda _: False)
        assert branch._by_clip(x) is by_clip
        y, gate = made(x, signals)
        assert gate is not None
        wanted = [x, *made.parameters()]
        results.append((y, gate, *torch.autograd.grad((y * gate).sum() + (y * grad).sum(), wanted)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_scale_keeps_its_digits_under_autocast():
    """1 + scale has but three in bfloat16."""
    made, signals = modulated(nn.LayerNorm(256, elementwise_affine=False), 256)
    x = torch.randn(3, 40, 256)
    regress = made.modulations["adaln"]
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = made(x, signals)
        shift, scale, _ = regress(signals["adaln"])
    assert y.dtype == torch.float32
    wanted = made.norm(x) * (1 + scale.float())[:, None] + shift.float()[:, None]
    torch.testing.assert_close(y, wanted)


@pytest.mark.parametrize(
    ("shape", "by_clip"), [((2, 64, 128), True), ((2, 64, 127), False), ((64, 8, 64), False)]
)
def test_tiny_clips_and_those_that_are_not_trained_on_are_normed_together(shape, by_clip):
    x = torch.empty(shape)
    assert branch._by_clip(x) is by_clip
    with torch.no_grad():
        assert not branch._by_clip(x)
    assert not branch._by_clip(x.to("meta"))
