"""Free text reaches the config letter by letter, through Hydra's real parser and compose."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from glissando.cli.quoting import literal, quote

TEXTS = [
    "warm piano, 90 bpm",
    "fiddler's",
    "piano (solo)",
    "C#",
    "90",
    "1e3",
    "true",
    "",
    " led by spaces ",
    "慢板的钢琴曲",
    "épinette à cinq voix ♯",
    'a "blue" note',
    """it's a "blue" note""",
    "a=b:c",
    "[brackets], {braces}",
    "back\\slash\\",
    "two\nlines\tand a tab",
    "costs ${seed} or ${oc.env:HOME}",
    "open ${ only",
    "\\${seed}",
    "\\\\${seed} \\",
    "$5 and 100% *?",
    "-dash",
    "~tilde +plus @at",
    "NULL",
    '"unfinished',
    '"one" and "two"',
    "a,b",
]
PATHS = [
    "epoch=3-step=100.ckpt",
    "/my music/a, b [live] (1)/épreuve #2.ckpt",
    "C:\\runs\\last.ckpt",
    "outputs/2026-01-01/12-00-00-dit",
]


def parse(argument: str) -> Override:
    return OverridesParser.create().parse_overrides([argument])[0]


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conf")
    (folder / "sample.yaml").write_text("prompt: null\nckpt: demo\nseed: 3\ndata:\n  root: null\n")
    return folder


def composed(conf: Path, argv: list[str]) -> dict:
    with initialize_config_dir(str(conf), version_base="1.3"):
        cfg = compose("sample", overrides=quote(argv))
    container = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(container, dict)
    return container


@pytest.mark.parametrize("text", TEXTS)
def test_a_prompt_is_taken_verbatim(conf: Path, text: str) -> None:
    assert composed(conf, [f"prompt={text}"])["prompt"] == text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", ["ckpt", "data.root"])
def test_a_path_is_taken_verbatim(conf: Path, key: str, path: str) -> None:
    cfg = OmegaConf.create(composed(conf, [f"{key}={path}"]))
    assert OmegaConf.select(cfg, key) == path


@pytest.mark.parametrize("argument", [
    "ditto.curve=0:-40 3:-10, 6:-40", "ditto.notes=0:C# 1:Bb 2:-", "ditto.keep=0-2,4.5-6",
    "ditto.form=0:A 2:B", "ditto.reference=my song (1), b.wav", "ditto.ckpt=step=3.ckpt",
])  # fmt: skip
def test_what_a_target_is_told_is_taken_verbatim(argument: str) -> None:
    key, _, value = argument.partition("=")
    (quoted,) = quote([argument])
    assert parse(quoted).key_or_group == key
    assert resolved(quoted) == value


@pytest.mark.parametrize("sign", ["+", "++"])
def test_added_keys_are_quoted_too(conf: Path, sign: str) -> None:
    assert composed(conf, [f"{sign}negative_prompt=a, b"])["negative_prompt"] == "a, b"


def resolved(argument: str) -> object:
    value = parse(argument).value()
    return OmegaConf.create({"x": value}).x


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("${")
@example("\\" * 3 + "${a}" + "\\" * 2)
@example("'\\\"${'")
def test_any_text_round_trips(text: str) -> None:
    argument = f"prompt={literal(text)}"
    assert resolved(argument) == text
    assert quote([argument]) == [argument]


@given(st.text(st.sampled_from("ab \\\"'${}[](),=:#\n.é"), max_size=12))
def test_any_text_of_difficult_letters_round_trips(text: str) -> None:
    argument = quote([f"prompt={text}"])[0]
    assert quote([argument]) == [argument]
    if argument != f"prompt={text}":  # else it was Hydra's own quotes: taken as Hydra's
        assert resolved(argument) == text
    else:
        parse(argument)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("null", None), ('"null"', "null"), ('"a, b"', "a, b"), ("['a, b','c']", ["a, b", "c"])],
)
def test_hydras_own_syntax_passes(conf: Path, value: str, expected: object) -> None:
    assert composed(conf, [f"prompt={value}"])["prompt"] == expected


def test_other_arguments_are_left_alone() -> None:
    argv = ["model=dit", "conditioning=[adaln_zero,prefix]", "~prompt", "-m", "--cfg", "job"]
    assert quote(argv) == argv
    assert quote(["model.prompt=a b"]) == ["model.prompt=a b"]


def sweep(value: str, key: str) -> list[str] | None:
    override = parse(quote(["-m", f"{key}={value}"])[1])
    return list(override.sweep_string_iterator()) if override.is_sweep_override() else None


def test_a_sweep_over_paths_and_over_quoted_texts_stays_one() -> None:
    assert sweep("a=1.ckpt,b c.ckpt", "ckpt") == ['"a=1.ckpt"', '"b c.ckpt"']
    assert sweep('"warm, slow","fast"', "prompt") == ['"warm, slow"', '"fast"']
    assert sweep("warm, slow", "prompt") is None
    assert sweep("one.ckpt", "ckpt") is None
