"""Several conditioners as one: entries, nulls, dropout, and the yamls."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from glissando.condition import Condition, Size, Vector
from glissando.conditioners import (
    CategoryConditioner,
    Conditioners,
    NumberConditioner,
    TextConditioner,
)
from glissando.errors import UserError
from glissando.text_encoders import Hash

CONF = Path(__file__).parents[2] / "conf"
ROWS = [
    {"caption": "a slow flute air", "seconds_total": 6.0, "instrument": "flute"},
    {"caption": None, "seconds_total": 30, "instrument": "piano", "bpm": 90},
    {"caption": "trumpet march", "seconds_total": 6.0},
    {"seconds_total": 12.5, "instrument": "flute"},
]


@pytest.fixture
def conditioners() -> Conditioners:
    torch.manual_seed(0)
    return Conditioners(
        text=TextConditioner(Hash(dim=8)),
        total=NumberConditioner("seconds_total", 0, 60, dim=6),
        instrument=CategoryConditioner("instrument", ["flute", "piano"], dim=5),
    )


def test_entries_and_sizes(conditioners):
    condition = conditioners(ROWS)
    assert list(condition) == ["text", "text_pooled", "seconds_total", "instrument"]
    assert condition.batch == 4
    assert condition.sizes == conditioners.sizes
    assert conditioners.sizes["instrument"] == Size(Vector, 5)


def test_a_list_a_mapping_and_keywords_are_the_same(conditioners):
    parts = dict(conditioners.parts)
    for same in (Conditioners(list(parts.values())), Conditioners(parts)):
        assert same.sizes == conditioners.sizes
        assert torch.equal(
            same(ROWS)["seconds_total"].value, conditioners(ROWS)["seconds_total"].value
        )


def test_two_of_a_name_are_refused():
    with pytest.raises(ValueError, match="seconds"):
        Conditioners(
            a=NumberConditioner("seconds", 0, 1), b=CategoryConditioner("seconds", ["one"])
        )


def test_only_conditioners_are_taken():
    with pytest.raises(TypeError, match="words is a Hash"):
        Conditioners(words=Hash())  # pyright: ignore[reportArgumentType]


def test_warming_encodes_the_captions_there_are(conditioners):
    conditioners.warm(row for row in [*ROWS, {"caption": " "}])
    cache = conditioners.parts["text"].cache
    assert cache.warm(["a slow flute air", "trumpet march"]) == 0
    assert cache.warm(["new"]) == 1


def test_without_any_it_is_empty():
    conditioners = Conditioners()
    assert conditioners(ROWS) == conditioners.null(4) == Condition()
    assert conditioners.dropout(Condition(), 0.5) == Condition()
    assert conditioners.sizes == {}


def test_the_null_fits_where_and_cat(conditioners):
    condition = conditioners(ROWS)
    null = conditioners.null(4, like=condition)
    assert list(null) == list(condition)
    assert condition.cat(null).batch == 8
    dropped = condition.where(torch.tensor([True, False, True, False]), null)
    assert dropped["text"].mask.any(1).all()
    # Timing is kept: guidance does not push it.
    assert torch.equal(null["seconds_total"].value, condition["seconds_total"].value)
    with pytest.raises(ValueError, match=r"seconds_total.*like="):
        conditioners.null(4)


def test_a_missing_attribute_is_the_absent_value(conditioners):
    condition = conditioners(ROWS)
    absent = conditioners.null(1, like=condition.rows([0]))
    assert torch.equal(condition["instrument"].value[2], absent["instrument"].value[0])
    assert torch.equal(condition["instrument"].value[0], condition["instrument"].value[3])
    kept = NumberConditioner("bpm", 40, 240, unconditional="kept")
    value = kept(ROWS)["bpm"].value  # kept is about guidance; what is not there stays not there
    assert value[0].abs().max() == 0
    assert value[1].abs().max() > 0


def _lost(conditioners: Conditioners, rows: int, p: float, groups=None) -> dict[str, torch.Tensor]:
    """Entry -> (rows,) bool, True where dropout has put the null."""
    condition = conditioners([ROWS[0]] * rows)
    generator = torch.Generator().manual_seed(3)
    dropped = conditioners.dropout(condition, p, generator, groups)
    return {
        name: (dropped[name].value != entry.value).flatten(1).any(1)
        for name, entry in condition.items()
    }


def test_dropout_is_joint(conditioners):
    lost = _lost(conditioners, 2000, 0.2)
    assert torch.equal(lost["text"], lost["text_pooled"])
    assert torch.equal(lost["text"], lost["instrument"])
    assert not lost["seconds_total"].any()  # kept
    assert abs(lost["text"].float().mean() - 0.2) < 0.03  # 3.4 standard errors
    assert torch.equal(lost["text"], _lost(conditioners, 2000, 0.2)["text"])  # seeded


def test_dropout_of_groups_is_independent_and_besides(conditioners):
    lost = _lost(conditioners, 4000, 0.1, {"text": 0.5, "instrument": 0.2})
    text, instrument = lost["text"].float(), lost["instrument"].float()
    assert torch.equal(lost["text"], lost["text_pooled"])
    assert abs(text.mean() - (1 - 0.9 * 0.5)) < 0.03
    assert abs(instrument.mean() - (1 - 0.9 * 0.8)) < 0.03
    assert abs((text * instrument).mean() - (0.1 + 0.9 * 0.5 * 0.2)) < 0.03
    with pytest.raises(ValueError, match="words"):
        _lost(conditioners, 2, 0.1, {"words": 0.5})


@pytest.mark.parametrize(("p", "all_lost"), [(0.0, False), (1.0, True)])
def test_dropout_of_nothing_and_of_everything(conditioners, p, all_lost):
    assert _lost(conditioners, 50, p)["text"].all() == all_lost
    assert _lost(conditioners, 50, p)["text"].any() == all_lost


def test_only_removes_what_nobody_reads(conditioners):
    assert conditioners.only(["text_pooled", "seconds_total", "noise"]) is conditioners
    assert list(conditioners(ROWS)) == list(conditioners.sizes) == ["text_pooled", "seconds_total"]
    assert not any("instrument" in key for key in conditioners.state_dict())


def test_what_is_learned_gets_a_gradient(conditioners):
    condition = conditioners(ROWS)
    torch.stack([entry.value.sum() for entry in condition.values()]).sum().backward()
    for name, parameter in conditioners.named_parameters():
        assert parameter.grad is not None, name


def test_a_copy_has_its_own_parameters_and_the_same_encoder(conditioners):
    twin = copy.deepcopy(conditioners)
    assert twin.parts["text"].encoder is conditioners.parts["text"].encoder
    with torch.no_grad():
        twin.parts["total"].project.bias.add_(1)
    difference = twin(ROWS)["seconds_total"].value - conditioners(ROWS)["seconds_total"].value
    torch.testing.assert_close(difference, torch.ones(4, 6))


def test_categories_are_a_table_and_strangers_are_refused(conditioners):
    category = conditioners.parts["instrument"]
    value = category(ROWS[:2])["instrument"].value
    assert torch.equal(value, category.table.weight)
    with pytest.raises(UserError, match=r"instrument='flutes' is not in .*flute"):
        category([{"instrument": "flutes"}])
    for values in ([], ["a", "a"]):
        with pytest.raises(UserError, match="different words"):
            CategoryConditioner("instrument", values)


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (CONF / "conditioner").glob("*.yaml"))
)
def test_yamls(name, tmp_path):
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose(overrides=["+text_encoder=hash", f"+conditioner={name}"])
    if "text" in config.conditioner:
        config.conditioner.text.cache = str(tmp_path)
    conditioners = instantiate(config.conditioner)
    condition = conditioners([{**row, "seconds_start": 0} for row in ROWS])
    assert condition.sizes == conditioners.sizes
    assert list(tmp_path.rglob("*.index")) or "text" not in config.conditioner
    null = conditioners.null(4, negative=["noise"] * 4, like=condition)
    assert list(null) == list(condition)
