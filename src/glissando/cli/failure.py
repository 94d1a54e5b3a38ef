"""An exception as one line that a user can act on.

`explain` dispatches on the exception's type; an exception that nobody foresaw is told with its
type and the place in our code, and ``GLISSANDO_DEBUG=1`` shows its stack.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from functools import singledispatch
from pathlib import Path

from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from glissando.cli.nearest import did_you_mean
from glissando.errors import UserError

INTERRUPTED = 130
_LONGEST = 500
_PACKAGE = Path(__file__).resolve().parents[1]
_FULL = {errno.ENOSPC, errno.EDQUOT}
# What libraries say of a full disk when they do not pass the system's error on.
_FULL_PHRASES = ("No space left on device", "PytorchStreamWriter failed writing")


def report(exception: BaseException) -> int:
    """Write the line of `exception` to stderr and return the exit status of the process.

    A KeyboardInterrupt may carry a text that says what was kept.
    """
    if os.environ.get("GLISSANDO_DEBUG") == "1":
        traceback.print_exception(exception)
    interrupted = isinstance(exception, KeyboardInterrupt)
    if interrupted:
        line = f"interrupted: {_one_line(str(exception)) or 'files that were finished are kept'}"
    else:
        line = f"error: {explain(exception)}"
    sys.stderr.write(line + "\n")
    return INTERRUPTED if interrupted else 1


def explain(exception: BaseException) -> str:
    """One line for whatever made `exception`: a user's error or a full disk first, if it is one."""
    causes = list(_causes(exception))
    for cause in causes:
        if isinstance(cause, UserError):
            return _one_line(str(cause))
    if any(_is_full(cause) for cause in causes):
        place = next((cause.filename for cause in causes if isinstance(cause, OSError)), None)
        where = f" for {place}" if place else ""
        elsewhere = "hydra.run.dir=…, for sample.py out=…"
        return f"no space left on the disk{where}: free some, or write elsewhere ({elsewhere})"
    if any(is_out_of_memory(cause) for cause in causes):
        return (
            "out of memory: in training lower loader.batch_size= (trainer.accumulate_grad_batches= "
            "keeps the step as large), loader.seconds= or set model.checkpointing=true; in "
            "sampling lower batch_size= or seconds="
        )
    return _line(exception)


@singledispatch
def _line(exception: BaseException) -> str:
    place = _place(exception)
    at = f" at {place}" if place else ""
    kind = type(exception).__name__
    text = _one_line(str(exception))
    told = f"{kind}: {text}" if text else kind
    return f"{told}{at} (set GLISSANDO_DEBUG=1 for the stack)"


@_line.register
def _(exception: OverrideParseException) -> str:
    text = _one_line(exception.message.partition("\nSee ")[0])
    return f"cannot read {exception.override!r}: {text}; text with signs is written key='\"a, b\"'"


@_line.register
def _(exception: MissingConfigException) -> str:
    if not exception.missing_cfg_file or not exception.options:
        return _one_line(str(exception))
    group, _, option = exception.missing_cfg_file.rpartition("/")
    return unknown_option(group, option, exception.options)


@_line.register
def _(exception: InstantiationException) -> str:
    cause = exception.__cause__
    if cause is None:
        return _one_line(str(exception))
    key = re.search(r"^full_key: (.+)$", str(exception), re.MULTILINE)
    return f"{key[1]}: {_line(cause)}" if key else _line(cause)


@_line.register(HydraException)
@_line.register(OmegaConfBaseException)
def _(exception: Exception) -> str:
    cause = exception.__cause__
    text = _one_line(str(exception))
    return f"{text}: {_one_line(str(cause))}" if cause and str(cause) not in text else text


@_line.register
def _(exception: MissingMandatoryValue) -> str:
    key = getattr(exception, "full_key", None)
    return f"{key} has no value yet: set {key}=…" if key else _one_line(str(exception))


def unknown_option(group: str, option: str, options: Sequence[str]) -> str:
    """The line for ``group=option`` when the group has no such option."""
    close = did_you_mean(f"{group}={option}", [f"{group}={name}" for name in options])
    return f"unknown {group}={option}{close or ''} (there are {', '.join(sorted(options))})"


def _causes(exception: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = exception
    while current is not None:
        yield current
        current = current.__cause__


def _is_full(exception: BaseException) -> bool:
    if isinstance(exception, OSError) and exception.errno in _FULL:
        return True
    return any(phrase in str(exception) for phrase in _FULL_PHRASES)


def is_out_of_memory(exception: BaseException) -> bool:
    """Does it say that memory is at its end, a GPU's or the machine's?"""
    # By name, for torch need not be imported to say so; on a processor torch raises RuntimeError.
    if isinstance(exception, MemoryError) or type(exception).__name__ == "OutOfMemoryError":
        return True
    return "can't allocate memory" in str(exception)


def _one_line(text: str) -> str:
    # A data loader's worker sends its exception's whole stack as the message: keep its last line.
    if "Original Traceback" in text:
        text = text.strip().rpartition("\n")[2].partition(": ")[2]
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _place(exception: BaseException) -> str | None:
    """``file:line`` of the deepest frame in our own code: the package, or the script that ran."""
    script = Path(sys.argv[0]).resolve() if sys.argv and sys.argv[0].endswith(".py") else None
    found = None
    for frame in traceback.extract_tb(exception.__traceback__):
        path = Path(frame.filename)
        ours = path.is_relative_to(_PACKAGE) and not path.is_relative_to(_PACKAGE / "cli")
        if ours or (script is not None and path == script):
            name = path.relative_to(_PACKAGE.parent) if ours else path.name
            found = f"{name}:{frame.lineno}"
    return found
