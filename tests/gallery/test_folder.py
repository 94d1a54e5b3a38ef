"""A folder of clips: files, numbers, facts and the page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from glissando.audio import read_audio
from glissando.errors import UserError
from glissando.gallery import write
from glissando.gallery.folder import next_number
from glissando.gallery.page import write_page

RATE = 8000
VOID = {"meta", "img", "link", "br"}


@dataclass
class Clip:
    wave: np.ndarray = field(default_factory=lambda: np.full((1, RATE), 0.25, np.float32))
    prompt: str = "a slow air"
    facts: Mapping[str, object] = field(default_factory=dict)
    sample_rate: int = RATE


class Page(HTMLParser):
    """Collects tags and text, and checks that every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(folder: Path) -> Page:
    return Page((folder / "index.html").read_text(encoding="utf-8"))


def test_a_clip_becomes_sound_picture_facts_and_page(tmp_path: Path) -> None:
    facts = {"seed": 3, "ckpt": Path("runs/last.ckpt"), "scale": np.float32(4), "config": {"a": []}}
    folder = tmp_path / "out"
    done = []
    paths = write(folder, [Clip(facts=facts), Clip(prompt="second")], progress=done.append)
    assert paths == [folder / "000.wav", folder / "001.wav"]
    assert done == [1, 2]
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"{number}.{kind}" for number in ("000", "001") for kind in ("json", "png", "wav")),
        "index.html",
    ]
    wave, rate = read_audio(folder / "000.wav")
    assert rate == RATE
    np.testing.assert_array_equal(wave, Clip().wave)
    assert json.loads((folder / "000.json").read_text()) == {
        "prompt": "a slow air",
        "seed": 3,
        "ckpt": "runs/last.ckpt",
        "scale": 4.0,
        "config": {"a": []},
        "sample_rate": RATE,
    }
    assert page(folder).texts["h2"] == ["a slow air", "second"]


def test_numbers_continue_and_old_clips_stay(tmp_path: Path) -> None:
    write(tmp_path, [Clip(prompt="old")])
    before = (tmp_path / "000.wav").read_bytes()
    (tmp_path / "041.png").write_bytes(b"an orphan")
    assert next_number(tmp_path) == 42
    loud = Clip(wave=np.full((1, 80), 0.5, np.float32), prompt="new")
    assert write(tmp_path, [loud]) == [tmp_path / "042.wav"]
    assert (tmp_path / "000.wav").read_bytes() == before
    assert page(tmp_path).texts["h2"] == ["old", "new"]
    (tmp_path / "999.wav").write_bytes(b"no sound, and not on the page")
    assert write(tmp_path, [loud]) == [tmp_path / "1000.wav"]
    assert next_number(tmp_path) == 1001
    assert len(page(tmp_path).all("audio")) == 3


def test_the_same_clip_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, [Clip(facts={"seed": 0})], title="same")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_a_clip_that_is_too_loud_says_its_gain(tmp_path: Path) -> None:
    write(tmp_path, [Clip(wave=np.array([[0.0, 2.0, -4.0]]))])
    assert json.loads((tmp_path / "000.json").read_text())["gain"] == 0.25
    wave, _ = read_audio(tmp_path / "000.wav")
    assert wave.tolist() == [[0.0, 0.5, -1.0]]


def test_a_clip_that_is_not_finite_leaves_no_file_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not finite"):
        write(tmp_path, [Clip(), Clip(wave=np.array([np.nan]))])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["000.json", "000.png", "000.wav", "index.html"]
    assert len(page(tmp_path).all("audio")) == 1


def test_the_page_escapes_links_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    nasty = """<script>alert("x")</script> & 'it' ${seed} $title"""
    write(tmp_path, [Clip(prompt=nasty, facts={"note": "<b>", "x<y": 1})], title="<i> & co")
    for suffix in ("wav", "png", "json"):
        (tmp_path / f"000.{suffix}").rename(tmp_path / f"a #1 100%?.{suffix}")
    write_page(tmp_path, title="<i> & co")
    shown = page(tmp_path)
    assert shown.texts["h2"] == [nasty]
    assert shown.texts["h1"] == ["<i> & co"]
    assert {"1", "<b>"} <= set(shown.texts["dd"])
    assert len(shown.all("script")) == 1
    assert not shown.all("b")
    assert not shown.all("link")
    (audio,), (image,) = shown.all("audio"), shown.all("img")
    assert audio["src"] == "a%20%231%20100%25%3F.wav"
    assert audio["preload"] == "none"
    assert "controls" in audio
    assert image["src"] is not None
    assert (tmp_path / unquote(image["src"])).is_file()
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "http" not in text
    assert "prefers-color-scheme: dark" in text


def test_a_page_of_bare_or_spoilt_clips(tmp_path: Path) -> None:
    write(tmp_path, [Clip(prompt=""), Clip()])
    (tmp_path / "000.png").unlink()
    (tmp_path / "001.json").write_text("{half")
    write_page(tmp_path)
    shown = page(tmp_path)
    assert shown.texts["h2"] == ["no prompt", "no prompt"]
    assert len(shown.all("img")) == 1
    assert shown.texts["h1"] == [tmp_path.name]


def test_an_empty_folder_has_a_page(tmp_path: Path) -> None:
    assert write(tmp_path / "none", []) == []
    assert "0 clips, 0:00 of audio" in "".join(page(tmp_path / "none").texts["p"])
