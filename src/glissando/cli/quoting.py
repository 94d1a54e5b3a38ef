"""Free text and paths on a Hydra command line, taken as they were typed.

Hydra's override grammar gives meaning to commas, quotes, parentheses, ``=``, ``#`` and more, and
reads ``prompt=90`` as a number. Values of the keys named here are put in Hydra's quotes before
Hydra sees them, so that the config receives the very characters that the shell passed on.

What is *not* taken as text:

- ``key=null``: Hydra's null, so that a default can be unset (the word itself: ``key='"null"'``);
- a value that is already written in Hydra's own quotes, whole (``key='"a, b"'``), or as a list of
  such (``key='["a", "b"]'``): it passes untouched, interpolations included. Quoting twice is
  therefore the same as quoting once;
- with ``--multirun`` only, what sweeps: ``key='"a","b"'``, and a comma-separated list of paths
  (``ckpt=one.ckpt,two.ckpt``). A comma in a *text* is always a comma.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

TEXT = frozenset(
    {
        "data.caption",
        "prompt",
        "negative_prompt",
        "ditto.curve",
        "ditto.notes",
        "ditto.keep",
        "ditto.form",
    }
)
"""Keys whose value is prose."""

PATHS = frozenset(
    {
        "name",
        "ckpt",
        "init",
        "guidance.ckpt",
        "ditto.ckpt",
        "ditto.reference",
        "out",
        "prompt_file",
        "runs",
        "init_audio",
        "extend",
        "cascade",
        "control",
        "data.cache",
        "data.root",
        "data.soundfont",
        "prepare.shards",
        "representation.autoencoder",
        "representation.vocoder",
    }
)
"""Keys whose value is a file, a folder or the name of one."""

_QUOTED = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_LIST = rf"{_QUOTED}(?:\s*,\s*{_QUOTED})*"
_HYDRA_VALUE = re.compile(rf"{_QUOTED}|\[\s*(?:{_LIST})?\s*\]", re.DOTALL)
_HYDRA_SWEEP = re.compile(_LIST, re.DOTALL)
_OVERRIDE = re.compile(r"(\+{0,2}([^=]+)=)(.*)", re.DOTALL)
_INTERPOLATION = re.compile(r"(\\*)\$\{")


def quote(
    argv: Sequence[str],
    text: Collection[str] = TEXT,
    paths: Collection[str] = PATHS,
) -> list[str]:
    """`argv` (without the program's name) with the values of `text` and `paths` keys quoted.

    ``+key=`` and ``++key=`` count as ``key=``; every other argument passes unchanged.
    """
    multirun = any(argument in ("-m", "--multirun") for argument in argv)
    quoted = []
    for argument in argv:
        match = _OVERRIDE.fullmatch(argument)
        if match and (match[2] in text or match[2] in paths):
            sweeps = multirun and match[2] in paths
            argument = match[1] + _value(match[3], multirun=multirun, sweeps=sweeps)
        quoted.append(argument)
    return quoted


def _value(value: str, *, multirun: bool, sweeps: bool) -> str:
    if value == "null" or _HYDRA_VALUE.fullmatch(value):
        return value
    if multirun and _HYDRA_SWEEP.fullmatch(value):
        return value
    if sweeps:
        return ",".join(literal(part) for part in value.split(","))
    return literal(value)


def literal(text: str) -> str:
    """`text` as a quoted string of Hydra's grammar that OmegaConf resolves to `text` again."""
    from hydra.core.override_parser.types import Quote, QuotedString

    # OmegaConf: `\${` is a literal `${`, and backslashes before it count double.
    escaped = _INTERPOLATION.sub(lambda match: match[1] * 2 + r"\${", text)
    return QuotedString(text=escaped, quote=Quote.double).with_quotes()
