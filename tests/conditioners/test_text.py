"""Captions: what counts as none, what the null is, which half is made."""

from __future__ import annotations

import logging

import pytest
import torch

from glissando.condition import Sequence, Vector
from glissando.conditioners import Conditioners, TextConditioner
from glissando.errors import UserError
from glissando.text_encoders import Hash, MiniLM

ROWS = [{"caption": "a slow flute air"}, {"caption": "trumpet"}]


@pytest.fixture
def text() -> TextConditioner:
    return TextConditioner(Hash(dim=8), unconditional="learned")


def test_it_makes_tokens_and_pooled(text):
    condition = text(ROWS)
    direct = Hash(dim=8)([row["caption"] for row in ROWS])
    assert isinstance(condition["text"], Sequence)
    assert isinstance(condition["text_pooled"], Vector)
    assert condition.sizes == text.sizes
    assert torch.equal(condition["text"].mask, direct.mask)
    torch.testing.assert_close(condition["text"].value, direct.tokens, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(condition["text_pooled"].value, direct.pooled, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("nothing", [{}, {"caption": None}, {"caption": ""}, {"caption": " \n"}])
def test_no_caption_is_the_null(text, nothing):
    mixed, alone, null = text([*ROWS, nothing]), text([nothing]), text.null(1)
    assert mixed["text"].mask[2].tolist() == [True, False, False, False, False]
    assert mixed["text"].value[2, 1:].abs().max() == 0
    for condition, row in ((mixed, 2), (alone, 0)):
        assert torch.equal(condition["text"].value[row, 0], null["text"].value[0, 0])
        assert torch.equal(condition["text_pooled"].value[row], null["text_pooled"].value[0])
    assert torch.equal(mixed["text"].value[:2], text(ROWS)["text"].value)


@pytest.mark.parametrize("policy", ["zero", "learned"])
def test_the_null_has_a_token_to_attend_to(policy):
    text = TextConditioner(Hash(dim=8), unconditional=policy)
    null = text.null(3)["text"]
    assert isinstance(null, Sequence)
    assert null.mask.shape == (3, 1)
    assert null.mask.all()
    query = torch.randn(3, 1, 4, 8)
    attended = torch.nn.functional.scaled_dot_product_attention(
        query, null.value[:, None], null.value[:, None], null.mask[:, None, None]
    )
    assert torch.isfinite(attended).all()
    assert (null.value.abs().max() > 0) == (policy == "learned")


def test_a_learned_null_is_trained_and_a_zero_one_is_not(text):
    condition = text([*ROWS, {}])
    (condition["text"].value.sum() + condition["text_pooled"].value.sum()).backward()
    assert text.absent_token.grad is not None
    torch.testing.assert_close(text.absent_token.grad, torch.ones(8))
    torch.testing.assert_close(text.absent_pooled.grad, torch.ones(8))
    assert not list(TextConditioner(Hash(dim=8), unconditional="zero").parameters())


def test_a_negative_prompt_takes_the_nulls_place(text):
    null = text.null(3, negative=["trumpet", None, ""])
    trumpet = text([{"caption": "trumpet"}])
    length = trumpet["text"].mask.shape[1]
    assert torch.equal(null["text"].value[0, :length], trumpet["text"].value[0])
    assert torch.equal(null["text_pooled"].value[0], trumpet["text_pooled"].value[0])
    for row in (1, 2):
        assert torch.equal(null["text_pooled"].value[row], text.absent_pooled)
        assert null["text"].mask[row].sum() == 1
    with pytest.raises(ValueError, match="2 negative prompts for 3 rows"):
        text.null(3, negative=["a", "b"])


@pytest.mark.parametrize("caption", [90, ["piano"], {"text": "piano"}])
def test_a_caption_that_is_not_text_is_refused(text, caption):
    with pytest.raises(UserError, match=r"caption is .* not text"):
        text([{"caption": caption}])


def test_kept_is_no_policy_for_text():
    with pytest.raises(UserError, match="unconditional='kept'"):
        TextConditioner(Hash(), unconditional="kept")  # pyright: ignore[reportArgumentType]


def test_the_encoder_is_in_no_state_dict():
    encoder = MiniLM()
    conditioners = Conditioners(text=TextConditioner(encoder, unconditional="learned"))
    conditioners(ROWS)
    assert sum(p.numel() for p in encoder.model.parameters()) > 22e6  # it is loaded
    assert set(conditioners.state_dict()) == {
        "parts.text.absent_token",
        "parts.text.absent_pooled",
    }
    assert sum(p.numel() for p in conditioners.parameters()) == 2 * 384
    assert not any(p.requires_grad for p in encoder.model.parameters())
    conditioners.train()
    assert not encoder.model.training


def test_results_follow_the_module_not_the_encoder(text):
    text.to("meta")
    for rows in (ROWS, [{}]):
        condition = text(rows)
        assert condition["text"].value.device.type == "meta"
        assert condition["text"].mask.device.type == "meta"
        assert condition["text_pooled"].value.device.type == "meta"


def test_only_what_is_read_is_made(text, tmp_path, caplog):
    text = TextConditioner(Hash(dim=8), cache=tmp_path)
    with caplog.at_level(logging.INFO, "glissando"):
        text.only(["text_pooled", "noise"])
    assert "nobody reads text:" in caplog.text
    for condition in (text(ROWS), text([*ROWS, {}]), text.null(2, negative=["a", ""])):
        assert list(condition) == list(text.sizes) == ["text_pooled"]
    assert not list(tmp_path.rglob("tokens.*"))


def test_order_and_company_do_not_matter(text):
    rows = [*ROWS, {}, {"caption": "a much longer caption, of piano and flute"}]
    together, backwards = text(rows), text(rows[::-1])
    for row in range(4):
        a, b = together.rows([row])["text"], backwards.rows([3 - row])["text"]
        assert torch.equal(a.value, b.value)
        assert torch.equal(a.mask, b.mask)
