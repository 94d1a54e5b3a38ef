"""Who reads what, and what is refused before anything runs."""

from __future__ import annotations

import pytest
import torch

from glissando.condition import Sequence, Size, Vector
from glissando.conditioning.routing import assign_noise, check_routing, routes
from glissando.errors import UserError


def test_stable_audio_open(lab):
    network = lab.dit("stable_audio")
    cross, prefix = network.mechanisms["cross_attention"], network.mechanisms["pooled_prefix"]
    assert cross.reads == ["text", "seconds_start", "seconds_total"]
    assert prefix.reads == ["noise", "seconds_start", "seconds_total"]
    signals = network.read(torch.rand(2), lab.condition())
    assert signals["cross_attention"].value.shape == (2, 5 + 2, 32)
    assert signals["cross_attention"].mask.tolist() == [[1, 1, 1, 0, 0, 1, 1], [1] * 7]
    assert signals["pooled_prefix"].value.shape == (2, 1, 32)
    assert signals["pooled_prefix"].mask is None


def test_stable_audio_open_keys_do_not_depend_on_the_noise_level(lab):
    network = lab.dit("stable_audio")
    early, late = (network.read(torch.full((2,), t), lab.condition()) for t in (0.1, 0.9))
    assert torch.equal(early["cross_attention"].value, late["cross_attention"].value)
    assert not torch.equal(early["pooled_prefix"].value, late["pooled_prefix"].value)


def test_audioldm2_has_two_cross_attentions_of_different_width_in_each_block(lab):
    network = lab.dit("audioldm2")
    for block in network.blocks:
        assert list(block.sublayers) == ["cross_attention_generated", "cross_attention"]
    embed = {name: network.mechanisms[name].embed for name in network.blocks[0].sublayers}
    assert embed["cross_attention"].layers["text"].in_features == 12
    assert embed["cross_attention_generated"].layers["text_generated"].in_features == 7


@pytest.mark.parametrize(
    ("names", "reader"),
    [
        (["cross_attention", "adaln_zero"], "adaln_zero"),
        (["adaln", "adaln_zero"], "adaln"),
        (["cross_attention", "film", "prefix"], "film"),
        (["channel_concat", "cross_attention"], "cross_attention"),
        (["cross_attention", "prefix"], "prefix"),
        (["channel_concat"], "channel_concat"),
        (["adaln_single", "film"], "adaln_single"),
    ],
)
def test_the_noise_level_has_one_reader(lab, names, reader):
    specs = lab.specs(*names)
    assert assign_noise(specs) == reader
    found = routes(lab.condition().sizes, specs, noise_dim=16)
    assert [name for name in names if "noise" in found[name]] == [reader]
    assert found[reader]["noise"] == Size(Vector, 16)


def test_unless_it_is_shared(lab):
    network = lab.dit("adaln_zero", "cross_attention", share_noise=True)
    assert all("noise" in mechanism.reads for mechanism in network.mechanisms.values())


def test_a_noise_level_that_reaches_nobody_is_refused(lab):
    specs = lab.specs("cross_attention")
    specs["cross_attention"].keywords["reads"] = ["text"]
    with pytest.raises(UserError, match=r"noise level reaches nobody.*conditioning="):
        check_routing(lab.condition().sizes, specs)
    with pytest.raises(UserError, match="noise level reaches nobody"):
        check_routing({}, {})


def test_a_mechanism_with_nothing_to_read_is_refused(lab):
    sizes = {"text_pooled": Size(Vector, 4)}
    with pytest.raises(UserError, match=r"cross_attention has nothing to read.*\.reads="):
        check_routing(sizes, lab.specs("adaln_zero", "cross_attention"))
    with pytest.raises(UserError, match="cross_attention has nothing to read"):
        lab.dit("adaln_zero", "cross_attention", sizes=sizes)


def test_a_shared_noise_level_is_something_to_read(lab):
    check_routing({}, lab.specs("adaln_zero", "cross_attention"), share_noise=True)


def test_an_entry_without_a_reader_is_refused(lab):
    sizes = {"text": Size(Sequence, 4), "text_pooled": Size(Vector, 4)}
    with pytest.raises(UserError, match=r"nobody reads \['text'\].*conditioning="):
        check_routing(sizes, lab.specs("adaln_zero"))
    check_routing(sizes, lab.specs("adaln_zero", "cross_attention"))


def test_an_entry_of_a_kind_that_cannot_be_carried_counts_as_unread(lab):
    sizes = {"text_pooled": Size(Sequence, 4)}  # adaln_zero names it but carries only vectors
    with pytest.raises(UserError, match="adaln_zero names text_pooled but cannot carry a Sequence"):
        check_routing(sizes, lab.specs("adaln_zero"))


def test_specs_may_be_a_list(lab):
    check_routing({"text_pooled": Size(Vector, 4)}, list(lab.specs("adaln_zero").values()))
