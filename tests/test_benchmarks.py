"""The programs of benchmarks/: that they run, and that their rulers are straight."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

FOLDER = Path(__file__).parents[1] / "benchmarks"
PROGRAMS = [path for path in sorted(FOLDER.glob("*.py")) if "ArgumentParser" in path.read_text()]
if str(FOLDER) not in sys.path:
    sys.path.append(str(FOLDER))
measure = importlib.import_module("measure")
peak = importlib.import_module("peak")


def python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **options)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_help(
    program: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(program), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(program), run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {program.name}")


def test_the_memory_of_a_tree_of_processes() -> None:
    """200 MiB, and 100 in its child, beside what two bare interpreters take."""
    child = "y = b'y' * (100 * 2**20); import time; time.sleep(0.5)"
    parent = f"""
x = b'x' * (200 * 2**20)
import subprocess, sys
subprocess.run([sys.executable, '-c', {child!r}])
sys.exit(3)
"""
    seen = peak.peak([sys.executable, "-c", parent], every=0.02)
    assert seen.status == 3
    assert 300 < seen.mib < 360
    assert 200 < seen.largest < 240
    assert seen.processes == 2
    assert 0 < seen.at < seen.seconds


def test_both_lists_of_processes_agree() -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("there is only one")
    try:
        by_ps = {process.pid: process for process in peak._by_ps()}
    except FileNotFoundError:
        pytest.skip("no ps")
    own = {process.pid: process for process in peak.processes()}
    mine, same = own[os.getpid()], by_ps[os.getpid()]
    assert mine.parent == same.parent == os.getppid()
    assert mine.mib == pytest.approx(same.mib, rel=0.1)


def test_peak_prints_figures_and_ends_as_its_command() -> None:
    done = python(str(FOLDER / "peak.py"), sys.executable, "-c", "print('heard'); exit(5)")
    assert (done.returncode, done.stdout) == (5, "heard\n")
    assert "peak" in done.stderr
    assert "MiB in 1 process(es)" in done.stderr
    assert python(str(FOLDER / "peak.py"), "no-such-program").returncode == 2


def test_a_process_does_not_inherit_the_memory_of_its_parent() -> None:
    held = b"x" * (300 * 2**20)
    code = "import measure; print(measure.peak_memory())"
    done = python("-c", code, cwd=FOLDER)
    assert 1 < float(done.stdout) < 100 < len(held) / 2**20


def test_a_median_with_its_range() -> None:
    assert measure.spread([3.0, 1.0, 2.0]) == "2 (1-3)"
    assert measure.spread([1234.5, 1000.0], ".0f") == "1117 (1000-1234)"
    took = measure.seconds_of(lambda: sum(range(1000)), 3)
    assert len(took) == 3
    assert min(took) > 0


def test_tables_and_lines(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"name": "a", "seconds": [1.0, 3.0]}, {"name": "b", "seconds": [0.5]}]
    columns = {"name": lambda row: row["name"], "s": lambda row: measure.spread(row["seconds"])}
    measure.show("title", rows, columns, as_json=True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    measure.show("title", rows, columns, as_json=False)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    assert [cells[0], *cells[2:]] == [["name", "s"], ["a", "2 (1-3)"], ["b", "0.5 (0.5-0.5)"]]
    assert set(lines[2]) == {"|", "-", ":"} or set(lines[2]) == {"|", "-"}


def test_the_arithmetic_of_a_training_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward products of a small DiT, against those of its layers and attention."""
    training = importlib.import_module("training")
    monkeypatch.chdir(tmp_path)
    forward = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal forward
        if isinstance(module, nn.Linear):
            forward += 2 * output.numel() * module.in_features

    hook = nn.modules.module.register_module_forward_hook(count)
    try:
        row = training.steps_of(
            "dit adaln_zero", "32-true", 2, 60.0,
            ["model.width=64", "model.depth=2", "model.heads=2", "text_encoder=hash",
             "loader.batch_size=2", "trainer=cpu"],
        )  # fmt: skip
    finally:
        hook.remove()
    steps = 2 + 2  # those that are timed, one before and one after
    tokens = 66  # 131 frames of the latent, two a token
    attention = 2 * 2 * (2 * 2 * tokens**2 * 64)  # blocks x clips x (q k and a v)
    forward = forward // steps + attention
    # Backward costs twice the forward pass, but for gradients of what nobody trains.
    assert 2.7 * forward < row["flop"] <= 3 * forward
    assert len(row["seconds"]) == 2
    assert row["batch"] == 2
    assert row["clip_seconds"] == pytest.approx(131 * 1024 / 22050)  # whole frames
    assert row["mib"] >= row["mib_before"] > 0
    assert row["flop"] / min(row["seconds"]) < row["limit"] < 1e16


@pytest.mark.parametrize("padded", [False, True])
def test_attention_makes_nothing_quadratic(padded: bool) -> None:
    """Of a training step of the DiT as Stable Audio Open has it, with and without padding.

    The ruler first: plain attention makes scores, and their gradients.
    """
    spared, contenders = (importlib.import_module(name) for name in ("spared", "contenders"))
    x = torch.randn(1, 2, 601, 8, requires_grad=True)
    with spared.Squares(601) as seen:
        ((x @ x.mT).softmax(-1) @ x).sum().backward()
    assert seen.made >= 3
    shape = contenders.Shape(width=64, depth=2, heads=2, batch=1, frames=600, tokens=8)
    given = contenders.Given.draw(shape, "cpu")
    network = contenders.dit(contenders.config(shape, *contenders.STABLE_AUDIO), given)
    mask = torch.arange(600)[None] < 450 if padded else None
    for mixed in (False, True):
        with spared.Squares(601) as seen, torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            network(given.z, given.noise, given.condition, mask).square().mean().backward()
        assert seen.made == 0, mixed


def test_autoencoders_are_compared_at_the_same_work() -> None:
    """Equal sound from equal weights; one backward pass through a generator a step, none of it the
    discriminator's."""
    pytest.importorskip("diffusers")
    autoencoders = importlib.import_module("autoencoders")
    torch.manual_seed(0)
    shape = autoencoders.Shape(width=4, channels=8, multiples=(1, 2), strides=(2, 4), seconds=0.1)
    rows = {row["network"]: row for row in autoencoders.coding(shape, 1)}
    assert rows["ours"]["parameters"] == rows["diffusers"]["parameters"]
    assert rows["ours"]["differs"] < 1e-5 < rows["spectral"]["differs"]
    assert all(min(*row["encode"], *row["seconds"]) > 0 for row in rows.values())
    steps = {row["network"]: row for row in autoencoders.step(shape, 1)}
    assert [row["backwards"] for row in steps.values()] == [1, 1, 1]
    assert steps["ours"]["bytes"] < steps["diffusers"]["bytes"]
    detached, other = autoencoders.adversary(shape, 1)
    assert (detached["backwards"], other["backwards"]) == (0, 1)


@pytest.mark.slow
def test_ten_minutes_of_audio_are_decoded_in_less_than_two_gigabytes() -> None:
    """At the layout of Stable Audio's autoencoder and an eighth of its width."""
    done = python(str(FOLDER / "autoencoders.py"), "--row", "--width", "16", "--seconds", "600")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["mib"] < 2e9 / 2**20
    assert row["mib"] - row["mib_before"] - row["mib_wave"] < 500


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "training.py --steps 1 --only dit --precision 32-true loader.batch_size=2",
        "training.py --steps 1 --only vae --precision 32-true loader.batch_size=1",
        "sampling.py --runs 1 --seconds 1",
        "samplers.py --runs 1 --only dpmpp",
        "networks.py --runs 1 --short",
        "startup.py --runs 1",
        "autoencoders.py --short --runs 1 --seconds 8",
    ],
)
def test_a_program_in_its_shortest_form(command: str) -> None:
    name, *arguments = command.split()
    done = python(str(FOLDER / name), *arguments, "--json", cwd=FOLDER.parent)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert rows
    assert all(min(row.get("seconds") or row["encode"]) > 0 for row in rows)
