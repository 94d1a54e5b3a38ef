"""What every yaml of conf/text_encoder promises, whatever the model behind it."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from glissando.errors import UserError
from glissando.text_encoders import TextEncoder

CONF = Path(__file__).parents[2] / "conf" / "text_encoder"
CAPTIONS = ["a slow flute air", "", "trumpet march", "gentle piano melody in 90 bpm with the flute"]


@pytest.fixture(scope="module", params=sorted(path.stem for path in CONF.glob("*.yaml")))
def make(request, tiny_models):
    """A function that instantiates the yaml; a hub name is replaced by a tiny local folder."""
    config = OmegaConf.load(CONF / f"{request.param}.yaml")
    if "name" in config:
        kind = config.get("defaults", [request.param])[0]  # of a size of its own, the family
        config = OmegaConf.merge(OmegaConf.load(CONF / f"{kind}.yaml"), config)
        config.pop("defaults", None)
        config.name = str(tiny_models[kind])
    return lambda **options: instantiate(config, **options)


@pytest.fixture(scope="module")
def encoder(make) -> TextEncoder:
    return make()


def test_sizes_are_known_before_weights_are_loaded(make):
    encoder = make()
    assert encoder.tokens_dim > 0
    assert encoder.pooled_dim > 0
    assert encoder.name
    assert not any(isinstance(x, torch.nn.Module) for x in vars(encoder).values())


def test_shapes_types_and_mask(encoder):
    text = encoder(CAPTIONS)
    batch, length = text.mask.shape
    assert batch == len(CAPTIONS)
    assert text.tokens.shape == (batch, length, encoder.tokens_dim)
    assert text.pooled.shape == (batch, encoder.pooled_dim)
    assert text.tokens.dtype == text.pooled.dtype == torch.float32
    assert text.mask.dtype == torch.bool
    assert text.mask[:, 0].all()  # an empty caption has a token, too
    assert text.mask[3].sum() > text.mask[0].sum() > text.mask[1].sum()
    assert text.tokens[~text.mask].abs().max() == 0
    assert not text.tokens.requires_grad
    assert torch.isfinite(text.tokens).all()
    assert torch.isfinite(text.pooled).all()


def test_padding_and_order_do_not_matter(encoder):
    together = encoder(CAPTIONS)
    backwards = encoder(CAPTIONS[::-1])
    for row, caption in enumerate(CAPTIONS):
        alone = encoder([caption])
        length = alone.mask.shape[1]
        for text, index in ((together, row), (backwards, len(CAPTIONS) - 1 - row)):
            assert text.mask[index].sum() == length
            torch.testing.assert_close(text.tokens[index, :length], alone.tokens[0])
            torch.testing.assert_close(text.pooled[index], alone.pooled[0])


def test_captions_differ_and_repeat(encoder):
    text = encoder(["a slow flute air", "trumpet march", "a slow flute air"])
    torch.testing.assert_close(text.pooled[0], text.pooled[2])
    assert (text.pooled[0] - text.pooled[1]).abs().max() > 1e-3


def test_precision_of_the_step_does_not_reach_the_encoder(encoder):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = encoder(CAPTIONS[:1])
    torch.testing.assert_close(inside.tokens, encoder(CAPTIONS[:1]).tokens)


def test_long_captions_are_cut_with_one_warning(make, caplog):
    encoder = make(limit=6)
    with caplog.at_level(logging.WARNING, "glissando"):
        encoder(["flute air"])
        assert not caplog.records
        for _ in range(2):
            assert encoder(["flute " * 50, "slow"]).mask.shape[1] == 6
    assert len(caplog.records) == 1


def test_a_full_caption_is_not_a_cut_one(encoder, make, caplog):
    length = int(encoder([CAPTIONS[0]]).mask.sum())
    with caplog.at_level(logging.WARNING, "glissando"):
        make(limit=length)([CAPTIONS[0]])
    assert not caplog.records


@pytest.mark.parametrize("caption", [90, ["piano"], b"piano", None, "caf\udce9"])
def test_what_is_not_text_is_refused(encoder, caption):
    with pytest.raises(UserError, match="not text"):
        encoder(["piano", caption])


@pytest.mark.parametrize("captions", ["piano", []])
def test_a_list_is_wanted(encoder, captions):
    with pytest.raises(ValueError, match="list"):
        encoder(captions)


def test_the_name_tells_limits_apart(make, encoder):
    assert make(limit=7).name != encoder.name
    assert make().name == encoder.name


def test_a_copy_shares_the_frozen_encoder(encoder):
    assert copy.deepcopy(encoder) is encoder
