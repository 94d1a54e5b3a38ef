"""The progress bar on a terminal, in a log, and not at all."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from glissando.progress import ERR, Bar, clock, note, say


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
    with Bar("encode [x]: y", 100, console=console, every=10, clock=now) as bar:
        for _ in range(100):
            now.now += 0.25
            bar.advance()
    assert text(console).splitlines() == [
        "encode [x]: y: 0/100 (0 %)",
        "encode [x]: y: 40/100 (40 %), 0:10 elapsed, 0:15 left",
        "encode [x]: y: 80/100 (80 %), 0:20 elapsed, 0:05 left",
        "encode [x]: y: 100/100 (100 %), 0:25 elapsed",
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
        "train: 4/8 (50 %), 0:04 elapsed, 0:04 left",
    ]


def test_what_was_done_before_is_no_part_of_the_speed() -> None:
    console, now = log(), Clock()
    with Bar("train", 100, 60, console=console, every=1, clock=now) as bar:
        now.now = 5
        bar.update(70)
        assert bar.rate == 2
        now.now = 20
    assert text(console).splitlines() == [
        "train: 60/100 (60 %)",
        "train: 70/100 (70 %), 0:05 elapsed, 0:15 left",
        "train: 70/100 (70 %), 0:20 elapsed, 1:00 left",
    ]


@pytest.mark.parametrize(("terminal", "looks"), [(False, 3), (True, 51)])
def test_facts_are_looked_at_only_when_they_are_shown(terminal: bool, looks: int) -> None:
    console, now, seen = log(force_terminal=terminal, color_system=None), Clock(), []

    def facts() -> str:
        seen.append(now.now)
        return f"loss [{len(seen)}]"

    with Bar("train", 100, console=console, clock=now) as bar:
        for step in range(100):
            now.now += 0.25
            bar.update(step + 1, facts=facts)
    # 25 seconds, every 10 or every half second, and the end
    assert len(seen) == looks
    assert f"loss [{len(seen)}]" in text(console)
    assert "100/100" in text(console)


def test_what_is_stopped_says_how_far_it_came_and_looks_at_nothing_more() -> None:
    console, now = log(), Clock()

    def broken() -> str:
        raise ZeroDivisionError

    def work() -> None:
        bar.update(2, facts=broken)
        raise ValueError("no")

    bar = Bar("encode", 3, console=console, clock=now)
    with pytest.raises(ValueError, match="no"), bar:
        work()
    assert text(console).splitlines() == [
        "encode: 0/3 (0 %)", "encode: stopped at 2/3 (66 %), 0:00 elapsed, 0:00 left",
    ]  # fmt: skip


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_when_quiet(terminal: bool) -> None:
    console, now = log(force_terminal=terminal), Clock()
    with Bar("encode", 3, shown=False, console=console, clock=now) as bar:
        now.now = 60
        bar.update(2, facts=lambda: pytest.fail("nobody sees it"))
    assert bar.done == 2
    assert text(console) == ""


def test_on_a_terminal_a_bar_is_drawn_and_its_end_always() -> None:
    console = log(force_terminal=True)
    with Bar("encode [x]", 3, console=console) as bar:
        bar.advance(3)
    shown = text(console)
    assert "encode [x]" in shown
    assert "3/3" in shown


def test_a_bar_says_its_lines_where_it_is_told_to(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("count", 1), Bar("other", 1, console=ERR):
        pass
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "count: 0/1 (0 %)"
    assert said.err.splitlines()[0] == "other: 0/1 (0 %)"


def test_a_line_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    line = "wrote /music [live]/:smile:/" + "x" * 300
    say(line)
    note(line + "!")
    said = capsys.readouterr()
    assert (said.out, said.err) == (line + "\n", line + "!\n")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (3661, "1:01:01")]
)
def test_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
