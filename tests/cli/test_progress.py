"""The progress bar on a terminal and in a log."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from glissando.cli.progress import Bar, clock, say, track


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def log(**options: object) -> Console:
    return Console(file=StringIO(), width=200, highlight=False, **options)  # type: ignore[arg-type]


def text(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_without_a_terminal_there_is_a_line_now_and_then() -> None:
    console, now = log(), Clock()
    with Bar("encode [x]", 100, console=console, every=10, clock=now) as bar:
        for _ in range(100):
            now.now += 0.25
            bar.advance()
    assert text(console).splitlines() == [
        "encode [x]: 0/100",
        "encode [x]: 40/100, 0:10 elapsed, 0:15 left",
        "encode [x]: 80/100, 0:20 elapsed, 0:05 left",
        "encode [x]: 100/100, 0:25 elapsed",
    ]


def test_an_unknown_total_and_one_that_becomes_known() -> None:
    console, now = log(), Clock()
    with Bar("train", console=console, every=1, clock=now) as bar:
        now.now = 2
        bar.update(3)
        now.now = 4
        bar.update(4, total=8)
    assert text(console).splitlines()[:3] == [
        "train: 0",
        "train: 3, 0:02 elapsed",
        "train: 4/8, 0:04 elapsed, 0:04 left",
    ]


def test_a_failure_is_not_reported_as_an_end() -> None:
    console = log()
    with pytest.raises(ValueError, match="no"), Bar("encode", 3, console=console):
        raise ValueError("no")
    assert text(console) == "encode: 0/3\n"


def test_on_a_terminal_a_bar_is_drawn() -> None:
    console = log(force_terminal=True)
    with Bar("encode [x]", 3, console=console) as bar:
        bar.advance(3)
    shown = text(console)
    assert "encode [x]" in shown
    assert "3/3" in shown


def test_track_yields_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2, 3], "count")) == [1, 2, 3]
    assert capsys.readouterr().out.splitlines()[-1].startswith("count: 3/3")
    assert list(track(iter("ab"), "letters")) == ["a", "b"]


def test_say_prints_a_line_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    line = "wrote /music [live]/:smile:/" + "x" * 300
    say(line)
    assert capsys.readouterr().out == line + "\n"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (3661, "1:01:01")]
)
def test_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
