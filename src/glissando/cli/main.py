"""`run`: what every command does around its own function.

Free text is quoted (`quoting`), ``--help`` is answered from the yaml files (`help`), the command
line is looked over (`check`), Hydra composes and runs, and whatever fails ends as one line on
stderr (`failure`).
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from glissando.cli.conf import config_dir
from glissando.cli.help import help_text
from glissando.cli.quoting import quote
from glissando.cli.started import agree
from glissando.errors import UserError

if TYPE_CHECKING:
    from argparse import Namespace

    from omegaconf import DictConfig

Function = Callable[["DictConfig"], Any]


class _JobFailed(BaseException):
    """Carries a job's exception through Hydra, which would print lines of its own about it."""


def run(name: str, config_name: str, function: Function | str, conf: Path | None = None) -> None:
    """Run `function` on the config ``conf/<config_name>.yaml`` as ``sys.argv`` changes it.

    `name` is the command and Hydra's job name. `function` takes the config; what it returns is
    what a sweeper optimizes. As ``"module:function"`` it is imported only when it is to run, so
    that ``--help`` and ``--cfg job`` do not wait for torch. Returns after success; otherwise exits
    with status 1, or 130 after Ctrl-C. `conf` is for tests.
    """
    argv = sys.argv[1:]
    try:
        folder = config_dir() if conf is None else conf
        if "--help" in argv or "-h" in argv:
            sys.stdout.write(help_text(_program(name), config_name, folder) + "\n")
            return
        _run(name, config_name, function, folder, argv)
    except KeyboardInterrupt as interrupt:
        _fail(interrupt)
    except _JobFailed as failed:
        _fail(failed.__cause__ or failed)
    except Exception as exception:
        _fail(exception)


def _run(name: str, config_name: str, function: Function | str, conf: Path, argv: list[str]):
    import hydra

    arguments = _parsed(quote(argv))
    composes = not (arguments.hydra_help or arguments.shell_completion or arguments.info)
    if composes and arguments.config_path is None:
        from glissando.cli.check import check

        extra = Path(arguments.config_dir).resolve() if arguments.config_dir else None
        check(arguments.overrides, arguments.config_name or config_name, conf, extra)

    script, multirun = sys.argv[0], arguments.multirun

    def task(cfg: DictConfig) -> Any:
        # A process that is started again with our argv (ddp) must quote what was typed, once.
        sys.argv = [script, *argv]
        if multirun:
            return _loaded(function)(cfg)
        try:
            return _loaded(function)(cfg)
        except Exception as exception:
            raise _JobFailed from exception

    agree()
    # Else Hydra reports errors itself, with a stack, and exits before we see them.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = [script, *_flags_first(name, quote(argv), arguments)]
    try:
        hydra.main(version_base="1.3", config_path=str(conf), config_name=config_name)(task)()
    finally:
        if multirun:
            from glissando.cli.sweep import tell

            tell()


def _parsed(argv: list[str]) -> Namespace:
    from hydra._internal.utils import get_args_parser

    def error(message: str) -> NoReturn:
        raise UserError(f"{message}; options are written key=value, see --help")

    parser = get_args_parser()
    parser.error = error
    return parser.parse_intermixed_args(argv)


def _flags_first(name: str, argv: list[str], arguments: Namespace) -> list[str]:
    """`argv` with Hydra's flags before the overrides, the only order its parser understands.

    Before the user's own overrides come ours.
    """
    overrides = Counter(arguments.overrides)
    flags = []
    for argument in argv:
        if overrides[argument]:
            overrides[argument] -= 1
        else:
            flags.append(argument)
    # Without it the job, and so its log file, is called after this module.
    ours = [f"hydra.job.name={name}"]
    if "hydra/sweeper=optuna" in arguments.overrides:
        ours.append("hydra.sweeper.max_failure_rate=1.0")  # a failed trial does not end the search
    return [*flags, *ours, *arguments.overrides]


def _loaded(function: Function | str) -> Function:
    if not isinstance(function, str):
        return function
    module, _, attribute = function.partition(":")
    return getattr(import_module(module), attribute)


def _program(name: str) -> str:
    script = Path(sys.argv[0]).name
    return f"python {script}" if script.endswith(".py") else f"glissando {name}"


def _fail(exception: BaseException) -> NoReturn:
    from glissando.cli.failure import report

    sys.exit(report(exception))
