"""What a command prints and returns, for right and wrong command lines."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from glissando.cli.main import run
from glissando.errors import UserError

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(
    conf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Call:
    """call(*argv, function) -> (exit status, stderr) of a command on the small conf."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.delenv("GLISSANDO_DEBUG", raising=False)

    def call(*argv: str, function: Callable[[DictConfig], Any] = lambda cfg: None):
        monkeypatch.setattr(sys, "argv", ["play.py", *argv])
        status = 0
        try:
            run("play", "play", function, conf)
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        return status, capsys.readouterr().err

    return call


def test_the_function_gets_the_composed_config_and_the_typed_argv(call: Call) -> None:
    seen = []

    def function(cfg: DictConfig) -> None:
        seen.append((cfg, sys.argv))

    argv = ("model=unet", "prompt=it's warm, (90) ${bpm}", "+experiment=tiny", "ckpt=a=1.ckpt")
    assert call(*argv[:2], "experiment=tiny", argv[3], function=function) == (0, "")
    cfg, typed = seen[0]
    assert cfg.model == {"name": "unet", "width": 1, "factor": 2}
    assert cfg.prompt == "it's warm, (90) ${bpm}"
    assert cfg.ckpt == "a=1.ckpt"
    assert typed == ["play.py", argv[0], argv[1], "experiment=tiny", argv[3]]


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("model.widht=3", "unknown key model.widht; did you mean model.width?"),
        ("modle.width=3", "unknown key modle.width; did you mean model.width?"),
        ("modle=unet", "unknown key modle; did you mean model?"),
        ("sede=3", "unknown key sede; did you mean seed?"),
        ("model.qqq=3", "unknown key model.qqq (+model.qqq=… adds a new one)"),
        ("conditioning.adaln.raeds=[a]", "unknown key conditioning.adaln.raeds; did you mean"),
        ("model=unte", "unknown model=unte; did you mean model=unet? (there are dit, unet)"),
        ("conditioning=[adaln,prefx]", "unknown conditioning=prefx; did you mean"),
        ("experiment=tinny", "unknown experiment=tinny; did you mean experiment=tiny?"),
        ("seed=abc", "seed=abc: wants a number (its default is 0)"),
        ("seed=true", "seed=True: wants a number"),
        ("fast=3", "fast=3: wants true or false"),
        ("sizes=3", "sizes=3: wants a list, as in [a,b]"),
        ("model.lr=high", "model.lr=high: wants a number (its default is 0.1)"),
        ("steps=many", "steps=many: wants a number (its default is 2)"),
        ("conditioning.adaln=1", "conditioning.adaln=1: wants keys of its own (its default is {re"),
        ("owner=a,b", "Ambiguous value for argument 'owner=a,b'"),
        ("owner=[a", "cannot read 'owner=[a'"),
        ("--epochs", "unrecognized arguments: --epochs; options are written key=value, see --help"),
    ],
)
def test_a_wrong_argument_is_one_line(call: Call, argument: str, line: str) -> None:
    ran = []
    status, err = call(argument, function=ran.append)
    assert status == 1
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1
    assert not ran


@pytest.mark.parametrize(
    "argument",
    [
        "seed=auto",
        "seed=null",
        "seed=0.5",
        "model.lr=1",
        "model.precision=16",
        "owner=[a,b]",
        "+model.extra=3",
        "++seed=x",
        "~sizes",
        "sizes=[]",
        "steps=${seed}",
        "model={width: 9}",
        "prompt=null",
        "hydra.run.dir=elsewhere",
    ],
)
def test_a_right_argument_passes(call: Call, argument: str) -> None:
    ran = []
    assert call(argument, function=ran.append) == (0, "")
    assert len(ran) == 1


def raising(exception: BaseException) -> Callable[[DictConfig], None]:
    def function(cfg: DictConfig) -> None:
        raise exception

    return function


def test_an_error_of_the_user_is_its_own_line(call: Call) -> None:
    assert call(function=raising(UserError("ckpt=x: no such file"))) == (
        1,
        "error: ckpt=x: no such file\n",
    )


def test_an_unforeseen_error_names_its_type_and_how_to_see_the_stack(call: Call) -> None:
    status, err = call(function=raising(ValueError("two\nlines")))
    assert status == 1
    assert err == "error: ValueError: two lines (set GLISSANDO_DEBUG=1 for the stack)\n"


def test_an_unforeseen_error_in_the_package_names_the_place(call: Call) -> None:
    def function(cfg: DictConfig) -> None:
        from glissando.mel import mel_filters

        mel_filters(8000, 512, 8, f_min=5000)

    _, err = call(function=function)
    assert "ValueError: need 0 <= f_min" in err
    assert " at glissando/mel.py:" in err


def test_debug_shows_the_stack(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLISSANDO_DEBUG", "1")
    status, err = call(function=raising(UserError("no")))
    assert status == 1
    assert "Traceback" in err
    assert err.endswith("error: no\n")


def test_interruption_and_a_full_disk(call: Call) -> None:
    for interrupt, kept in (
        (KeyboardInterrupt(), "files that were finished are kept"),
        (KeyboardInterrupt("3 songs are kept"), "3 songs are kept"),
        (
            KeyboardInterrupt("Caught … Original Traceback …\nKeyboardInterrupt\n"),
            "files that were",
        ),
    ):
        status, err = call(function=raising(interrupt))
        assert status == 130
        assert err.startswith(f"interrupted: {kept}")
        assert err.count("\n") == 1
    full = OSError(errno.ENOSPC, "No space left on device", "/x/000.tar")
    status, err = call(function=raising(full))
    assert status == 1
    assert err.startswith("error: no space left on the disk for /x/000.tar: free some")


def test_out_of_memory_names_what_to_lower(call: Call) -> None:
    import torch

    def processor(_: DictConfig) -> None:
        torch.empty(1 << 50)

    graphics = raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."))
    for function in (processor, graphics, raising(MemoryError())):
        status, err = call(function=function)
        assert status == 1
        assert err.startswith("error: out of memory: in training lower loader.batch_size=")
        assert err.count("\n") == 1


def test_a_missing_value_names_its_key(call: Call) -> None:
    status, err = call(function=lambda cfg: cfg.owner)
    assert (status, err) == (1, "error: owner has no value yet: set owner=…\n")


def test_instantiation_tells_the_cause_and_the_key(call: Call) -> None:
    from hydra.utils import instantiate

    def function(cfg: DictConfig) -> None:
        instantiate(cfg.model)

    target = "glissando.mel.MelSpectrogram"
    status, err = call(f"+model._target_={target}", function=function)
    assert status == 1
    assert err.startswith("error: model: TypeError: ")
    assert "unexpected keyword argument" in err
    assert err.count("\n") == 1


def test_a_user_error_inside_instantiation_is_told_alone(call: Call) -> None:
    from hydra.errors import InstantiationException

    def function(cfg: DictConfig) -> None:
        try:
            raise UserError("data.root=x is not a folder")
        except UserError as cause:
            raise InstantiationException("Error in call to target") from cause

    assert call(function=function) == (1, "error: data.root=x is not a folder\n")


def test_a_user_error_of_a_loader_worker_is_told_alone(call: Call) -> None:
    text = (
        "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call "
        "last):\n  File ...\nglissando.errors.UserError: a.flac: cannot be read\n"
    )
    assert call(function=raising(UserError(text))) == (1, "error: a.flac: cannot be read\n")


def test_a_sweep_runs_every_job_and_a_failure_in_it_is_told(call: Call) -> None:
    seen = []

    def function(cfg: DictConfig) -> float:
        seen.append((cfg.model.name, cfg.seed, cfg.prompt))
        if cfg.seed == 2:
            raise UserError("seed=2 is unlucky")
        return 1.0

    argv = ("model=dit,unet", "-m", "seed=0,1", "prompt=a, b")
    assert call(*argv, function=function) == (0, "")
    assert seen == [(name, seed, "a, b") for name in ("dit", "unet") for seed in (0, 1)]
    status, err = call("-m", "seed=1,2", function=function)
    assert status == 1
    assert err.endswith("error: seed=2 is unlucky\n")


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("model=dit,unte", "unknown model=unte"),
        ("model.widht=1,2", "unknown key model.widht"),
        ("seed=1,x", "seed=x: wants a number"),
    ],
)
def test_a_sweep_is_looked_over_before_its_first_job(call: Call, argument: str, line: str) -> None:
    ran = []
    status, err = call("-m", argument, function=ran.append)
    assert status == 1
    assert err.startswith(f"error: {line}")
    assert not ran


def test_options_of_an_added_config_folder_are_found(call: Call, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "experiment"
    mine.mkdir(parents=True)
    (mine / "own.yaml").write_text("# @package _global_\nseed: 7\n")
    seen = []
    status, err = call(
        "experiment=own",
        f"--config-dir={tmp_path}/mine",
        function=lambda cfg: seen.append(cfg.seed),
    )
    assert (status, err, seen) == (0, "", [7])
    assert call("experiment=owm", f"--config-dir={tmp_path}/mine")[0] == 1
