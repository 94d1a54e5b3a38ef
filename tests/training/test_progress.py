"""What a run says of itself while it trains."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from glissando.training.progress import ProgressBar
from tiny import VAE, Train


def test_a_run_says_how_far_it_is_and_a_resumed_one_where_it_began(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = [*VAE, "callbacks.progress=true"]
    train(tmp_path, *shown, "trainer.max_steps=2", "schedule.steps=4")
    said = capsys.readouterr()
    assert said.out == ""
    assert re.search(
        r"^training: 0/2 \(0 %\)\n(.*\n)*step 2: val/loss .*\n"
        r"training: 2/2 \(100 %\), 0:\d\d elapsed, loss \d+\.\d{4}, \d+\.\d\d steps/s\n",
        said.err, re.MULTILINE,
    ), said.err  # fmt: skip
    train(tmp_path, *shown, "trainer.max_steps=4", "ckpt=last", "schedule.steps=4")
    assert "training: 2/4 (50 %)\n" in capsys.readouterr().err


def test_nothing_when_quiet(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, *VAE, "callbacks.progress=false", "trainer.max_steps=1")
    said = capsys.readouterr()
    assert "training:" not in said.err
    assert "step" not in said.err


class OtherRank:
    """What the bar asks of a Lightning trainer that is not the first process."""

    max_steps, global_step, is_global_zero = 10, 0, False


def test_only_the_first_process_has_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar()
    bar.on_train_start(OtherRank())  # type: ignore[arg-type]
    bar.on_train_batch_end(OtherRank())  # type: ignore[arg-type]
    bar.on_exception(OtherRank(), None, ValueError("no"))  # type: ignore[arg-type]
    bar.on_train_end()
    assert capsys.readouterr().err == ""
