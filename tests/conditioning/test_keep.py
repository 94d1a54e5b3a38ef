"""Keys and values of a fixed condition are computed once, and never a wrong one is reused."""

from __future__ import annotations

import pytest
import torch

from glissando.conditioning.cross_attention import CrossAttend
from glissando.conditioning.keep import keeping


@pytest.fixture
def calls(monkeypatch) -> list[CrossAttend]:
    made, original = [], CrossAttend.keys_values
    monkeypatch.setattr(
        CrossAttend, "keys_values", lambda self, tokens: made.append(self) or original(self, tokens)
    )
    return made


def run(network, condition, steps=4):
    z = torch.linspace(-1, 1, 48).view(2, 4, 1, 6)
    return [network(z, t.expand(2), condition) for t in torch.linspace(0, 1, steps)]


@torch.no_grad()
@pytest.mark.parametrize("name", ["stable_audio", "audioldm2"])
def test_once_per_clip_with_the_same_output(lab, build, calls, name):
    network, condition = lab.stir(build(name)), lab.condition()
    plain = run(network, condition)
    sublayers = sum(isinstance(module, CrossAttend) for module in network.modules())
    assert len(calls) == 4 * sublayers
    calls.clear()
    with keeping():
        fast = run(network, condition)
    assert len(calls) == sublayers
    assert all(torch.equal(a, b) for a, b in zip(plain, fast, strict=True))


@torch.no_grad()
def test_another_condition_and_another_time_are_computed_anew(lab):
    network = lab.stir(lab.dit("stable_audio"))
    first, second = lab.condition(seed=0), lab.condition(seed=1)
    wanted = run(network, second)
    with keeping():
        run(network, first)
        assert torch.equal(run(network, second)[0], wanted[0])
    network.blocks[0].sublayers["cross_attention"].inner.key_value.weight.mul_(2)
    changed = run(network, second)
    assert not torch.equal(changed[0], wanted[0])
    with keeping():
        assert torch.equal(run(network, second)[0], changed[0])


@torch.no_grad()
def test_a_noise_level_in_the_keys_is_never_stale(lab):
    network, condition = lab.stir(lab.dit("cross_attention")), lab.condition()
    plain = run(network, condition)
    with keeping():
        assert all(torch.equal(a, b) for a, b in zip(plain, run(network, condition), strict=True))


def test_training_is_untouched(lab, calls):
    network, condition = lab.stir(lab.dit("stable_audio")), lab.condition()
    with keeping():
        run(network, condition)
    assert len(calls) == 4 * 2
