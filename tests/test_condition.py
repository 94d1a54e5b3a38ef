"""Conditions: dropout, batching of guidance, merging."""

from __future__ import annotations

import pytest
import torch

from glissando.condition import Condition, Local, Sequence, Size, Vector


def known(batch: int = 3, tokens: int = 4, value: float = 1.0) -> Condition:
    mask = torch.ones(batch, tokens, dtype=torch.bool)
    mask[0, -1] = False
    return Condition(
        {
            "text": Sequence(torch.full((batch, tokens, 5), value), mask),
            "pooled": Vector(torch.full((batch, 6), value)),
            "melody": Local(torch.full((batch, 2, 1, 7), value)),
        }
    )


def text(condition: Condition) -> Sequence:
    entry = condition["text"]
    assert isinstance(entry, Sequence)
    return entry


def test_sizes_and_batch():
    assert known().sizes == {
        "text": Size(Sequence, 5),
        "pooled": Size(Vector, 6),
        "melody": Size(Local, 2),
    }
    assert known(2).batch == 2
    assert Condition().batch is None
    assert not Condition()


def test_joint_dropout_replaces_every_entry_of_a_row_and_none_of_the_others():
    keep = torch.tensor([True, False, True])
    null = known(tokens=1, value=0.0)
    dropped = known().where(keep, null)
    for name, entry in dropped.items():
        rows = entry.value.flatten(1)
        assert (rows[[0, 2]].sum(1) == known()[name].value.flatten(1)[[0, 2]].sum(1)).all()
        assert (rows[1] == 0).all()
    # The null's one token is padded to four, and the padding is masked.
    assert text(dropped).mask.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]


def test_a_null_longer_than_the_condition_keeps_its_tokens():
    null = known(tokens=6, value=0.0)
    dropped = known(tokens=2).where(torch.tensor([True, True, False]), null)
    assert dropped["text"].value.shape == (3, 6, 5)
    assert text(dropped).mask.sum(1).tolist() == [1, 2, 6]


def test_dropout_by_name_leaves_the_unnamed_entries_whole():
    dropped = known().where({"pooled": torch.tensor([False, False, True])}, known(value=0.0))
    assert dropped["pooled"].value.sum(1).tolist() == [0, 0, 6]
    assert torch.equal(dropped["text"].value, known()["text"].value)


def test_dropout_passes_gradients_to_a_learned_null():
    null = torch.zeros(1, 6, requires_grad=True)
    full = Condition({"pooled": Vector(torch.ones(3, 6))})
    keep = torch.tensor([True, False, False])
    out = full.where(keep, Condition({"pooled": Vector(null.expand(3, 6))}))
    out["pooled"].value.sum().backward()
    assert null.grad is not None
    assert null.grad.tolist() == [[2.0] * 6]


def test_dropout_refuses_unknown_and_missing_names():
    with pytest.raises(KeyError, match="melodi"):
        known().where({"melodi": torch.ones(3, dtype=torch.bool)}, known())
    with pytest.raises(KeyError, match="no entry 'pooled'"):
        known().where(torch.ones(3, dtype=torch.bool), known().only(["text", "melody"]))


def test_cat_pads_the_shorter_sequence_with_masked_zeros():
    both = known(tokens=4).cat(known(batch=2, tokens=2))
    assert both.batch == 5
    assert both["text"].value.shape == (5, 4, 5)
    assert text(both).mask[3].tolist() == [1, 0, 0, 0]
    assert (both["text"].value[3:, 2:] == 0).all()


def test_cat_refuses_other_entries_and_other_kinds():
    with pytest.raises(ValueError, match="cannot concatenate"):
        known().cat(known().only(["text"]))
    with pytest.raises(ValueError, match="Vector and Local"):
        known().only(["pooled"]).cat(Condition({"pooled": Local(torch.zeros(3, 6, 1, 1))}))


def test_merge_refuses_a_name_twice():
    merged = known().only(["text"]).merge(known().only(["pooled"]))
    assert set(merged) == {"text", "pooled"}
    with pytest.raises(ValueError, match="made twice"):
        merged.merge(known())


def test_rows_and_move():
    picked = known().rows([2, 0])
    assert text(picked).mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    half = known().move(dtype=torch.bfloat16)
    assert half["pooled"].value.dtype == torch.bfloat16
    assert text(half).mask.dtype == torch.bool


def test_it_is_frozen():
    with pytest.raises(TypeError):
        known()["text"] = Vector(torch.zeros(3, 6))  # type: ignore[index]
    with pytest.raises(AttributeError):
        known()["text"].value = torch.zeros(1)  # type: ignore[misc]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Vector(torch.zeros(2, 3, 4)),
        lambda: Sequence(torch.zeros(2, 3, 4), torch.ones(2, 4, dtype=torch.bool)),
        lambda: Sequence(torch.zeros(2, 3, 4), torch.ones(2, 3)),
        lambda: Local(torch.zeros(2, 3, 4)),
        lambda: Condition({"a": Vector(torch.zeros(2, 1)), "b": Vector(torch.zeros(3, 1))}),
    ],
)
def test_wrong_shapes_are_refused(make):
    with pytest.raises(ValueError, match=r"shape|disagree"):
        make()
