"""Help, speed and dispatch of the command lines, in processes of their own where it matters."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import glissando
from glissando.cli import console
from glissando.cli.conf import config_dir, pretrained_dir
from glissando.cli.help import help_text
from glissando.cli.nearest import nearest
from glissando.errors import UserError

SOURCE = Path(glissando.__file__).parents[1]

SCRIPT = """\
import sys
from pathlib import Path
from glissando.cli.main import run

def function(cfg):
    import torch
    print("width", cfg.model.width, cfg.prompt)

run("play", "play", function, Path("conf").resolve())
print("torch" in sys.modules, file=sys.stderr)
"""


def script(folder: Path, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "play.py").write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, "play.py", *argv],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(SOURCE), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.usefixtures("conf")
def test_help_names_keys_groups_and_examples_without_hydra_or_torch(tmp_path: Path) -> None:
    before = os.times().children_user
    done = script(tmp_path, "--help")
    assert (
        os.times().children_user - before < 1
    )  # processor seconds, so a busy machine is no matter
    assert done.returncode == 0
    assert done.stderr == "False\n"
    assert done.stdout.startswith("usage: python play.py [key=value …]")
    assert "  python play.py model=dit model.width=8\n" in done.stdout
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for line in (
        "prompt=null what to play, as typed",
        "loader.… how data is read",
        "loader.workers=1 processes",
        "model dit*, unet",
        "conditioning adaln*, prefix",
        "experiment tiny",
    ):
        assert line in lines


@pytest.mark.usefixtures("conf")
def test_cfg_job_shows_the_config_without_torch(tmp_path: Path) -> None:
    done = script(tmp_path, "--cfg", "job", "model=unet", "prompt=a, b")
    assert done.returncode == 0
    assert done.stderr == "False\n"
    assert "prompt: a, b\n" in done.stdout
    assert "factor: 2\n" in done.stdout


@pytest.mark.usefixtures("conf")
def test_hydra_help_is_hydras_own(tmp_path: Path) -> None:
    done = script(tmp_path, "--hydra-help")
    assert done.returncode == 0
    assert "--hydra-help" in done.stdout
    assert "--info" in done.stdout


@pytest.mark.usefixtures("conf")
def test_a_script_fails_with_one_line_and_status_1(tmp_path: Path) -> None:
    done = script(tmp_path, "model.widht=3")
    assert done.returncode == 1
    assert done.stdout == ""
    close = "unknown key model.widht; did you mean model.width?"
    assert done.stderr == f"error: {close} (+model.widht=… adds a new one)\n"


def test_the_real_configs_have_help() -> None:
    for name, command in console.COMMANDS.items():
        text = help_text(f"glissando {name}", command.config, config_dir())
        assert text.startswith(f"usage: glissando {name} ")
        assert "\ngroups:\n" in text or "\nkeys:\n" in text


def test_every_command_has_a_config_and_a_function() -> None:
    for command in console.COMMANDS.values():
        assert (config_dir() / f"{command.config}.yaml").is_file()
        assert find_spec(command.function.partition(":")[0]) is not None, command


def console_main(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    monkeypatch.setattr(sys, "argv", ["glissando", *argv])
    try:
        console.main()
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def test_console_lists_its_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert console_main(monkeypatch) == 0
    out = capsys.readouterr().out
    for name, command in console.COMMANDS.items():
        assert f"  {name:<10} {command.about}\n" in out


def test_console_refuses_an_unknown_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert console_main(monkeypatch, "trian") == 2
    expected = "error: unknown command trian; did you mean train? (glissando --help lists them)\n"
    assert capsys.readouterr().err == expected


def test_console_runs_a_command_with_the_rest_of_the_line(
    monkeypatch: pytest.MonkeyPatch, conf: Path, tmp_path: Path
) -> None:
    (tmp_path / "played.py").write_text("def play(cfg):\n    print('played', cfg.seed)\n")
    command = console.Command("play", "played:play", "play")
    monkeypatch.setitem(console.COMMANDS, "play", command)
    monkeypatch.setattr("glissando.cli.main.config_dir", lambda: conf)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert console_main(monkeypatch, "play", "seed=4") == 0
    assert (tmp_path / "runs" / "one" / ".hydra" / "overrides.yaml").read_text() == "- seed=4\n"
    assert "name: play\n" in (tmp_path / "runs" / "one" / ".hydra" / "hydra.yaml").read_text()


def test_conf_is_found_in_a_wheel_and_in_a_clone(tmp_path: Path) -> None:
    package, clone = tmp_path / "site" / "glissando", tmp_path / "clone"
    with pytest.raises(UserError, match="the conf folder is neither at"):
        config_dir(package, clone)
    (clone / "conf").mkdir(parents=True)
    (clone / "data" / "pretrained").mkdir(parents=True)
    assert config_dir(package, clone) == clone / "conf"
    assert pretrained_dir(package, clone) == clone / "data" / "pretrained"
    (package / "conf").mkdir(parents=True)
    (package / "pretrained").mkdir()
    assert config_dir(package, clone) == package / "conf"
    assert pretrained_dir(package, clone) == package / "pretrained"
    assert config_dir().name == "conf"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.widht", "model.width"),
        ("widht", "model.width"),
        ("data.width", "model.width"),
        ("trainer.max_step", "trainer.max_steps"),
        ("zebra.qqq", None),
    ],
)
def test_nearest(name: str, expected: str | None) -> None:
    assert nearest(name, ["model", "model.width", "trainer", "trainer.max_steps"]) == expected
