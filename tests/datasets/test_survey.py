"""What `glissando check` hears, against what was written on purpose."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import soundfile

from glissando.datasets.findings import Findings, Limits
from glissando.datasets.folder import Folder
from glissando.datasets.prepare import prepare
from glissando.datasets.survey import Survey, holds_tars
from glissando.errors import UserError

RATE = 16000


def sine(seconds: float, loud: float = 0.5, hz: float = 440.0) -> np.ndarray:
    return loud * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    root = tmp_path_factory.mktemp("music")
    (root / "deep").mkdir()
    half = np.concatenate([sine(1), np.zeros(RATE)])
    for name, wave, rate in (
        ("good.wav", sine(2), RATE), ("half.wav", half, RATE),
        ("silent.flac", np.zeros(2 * RATE), RATE),
        ("clipped.wav", np.clip(sine(2, 3), -1, 1), RATE),
        ("peak.wav", sine(2, 1.0, 4000.0), RATE), ("short.wav", sine(0.2), RATE),
        ("stereo.wav", np.stack([sine(2, 0.25), sine(2, 0.3)], 1), 48000),
    ):  # fmt: skip
        soundfile.write(root / name, wave, rate)
        (root / name).with_suffix(".txt").write_text("a tone")
    soundfile.write(root / "deep/copy.flac", *soundfile.read(root / "good.wav", dtype="int16"))
    (root / "deep/copy.txt").write_text("a tone")
    (root / "half.txt").unlink()
    (root / "peak.txt").write_text("la " * 100)
    (root / "junk.mp3").write_bytes(b"junk" * 100)
    (root / "empty.wav").write_bytes(b"")
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE)
    soundfile.write(root / "cut.flac", noise, RATE)
    content = (root / "cut.flac").read_bytes()
    (root / "cut.flac").write_bytes(content[: len(content) // 2])
    (root / "phone.m4a").write_bytes(b"....ftypM4A ")
    return root


@pytest.fixture(scope="module")
def heard(music):
    return {clip.name: clip for clip in Survey().of(str(music), progress=False)}


def test_each_clip_is_heard_as_it_is(heard):
    good = heard["good.wav"]
    assert (good.seconds, good.rate, good.channels, good.caption) == (2.0, RATE, 1, "a tone")
    assert good.level == pytest.approx(20 * math.log10(0.5 / 2**0.5), abs=0.01)
    assert good.peak == pytest.approx(20 * math.log10(0.5), abs=0.01)
    assert (good.silent, good.clipped) == (0, 0)
    assert heard["half.wav"].silent == pytest.approx(0.5, abs=0.05)
    assert heard["silent.flac"].silent == 1
    assert heard["silent.flac"].level == -math.inf
    over = 2 * math.acos(1 / 3) / math.pi  # the share of a sine of amplitude 3 that is beyond 1
    assert heard["clipped.wav"].clipped == pytest.approx(over, abs=0.03)
    assert heard["peak.wav"].peak == pytest.approx(0, abs=0.01)
    assert heard["peak.wav"].clipped == 0  # it is as loud as can be, and not clipped
    assert (heard["stereo.wav"].channels, heard["stereo.wav"].rate) == (2, 48000)
    assert heard["deep/copy.flac"].mark == good.mark != heard["half.wav"].mark


def test_findings(heard):
    findings = Findings(list(heard.values()), Limits())
    assert findings.of["silent"] == ["silent.flac"]
    assert findings.of["clipped"] == ["clipped.wav"]
    assert findings.of["short"] == ["short.wav"]
    assert findings.of["no caption"] == ["half.wav"]
    assert findings.of["long caption"] == ["peak.wav"]
    assert findings.of["duplicate"] == ["good.wav"]  # deep/copy.flac comes first
    bad = {line.partition(" (")[0]: line for line in findings.of["unreadable"]}
    assert set(bad) == {"junk.mp3", "empty.wav", "cut.flac", "phone.m4a"}
    assert "convert it" in bad["phone.m4a"]
    loose = Findings(list(heard.values()), Limits(0.4, 1.0, 0.0, 200))
    assert loose.of["silent"] == ["half.wav", "silent.flac"]
    assert not any(loose.of[name] for name in ("clipped", "short", "long caption"))


def test_workers_and_shards_hear_the_same(music, heard, tmp_path):
    assert Survey().of(str(music), workers=2, progress=False) == list(heard.values())
    songs = tmp_path / "songs"
    songs.mkdir()
    for name in ("good.wav", "silent.flac", "clipped.wav"):
        shutil.copy(music / name, songs)
        shutil.copy((music / name).with_suffix(".txt"), songs)
    prepare(Folder(songs, sample_rate=RATE), tmp_path / "out", progress=False)
    assert holds_tars(str(tmp_path / "out"))
    assert not holds_tars(str(music))
    shards = Survey().of(str(tmp_path / "out"), progress=False)
    assert len(shards) == 3
    for clip in shards:
        song = heard[clip.name.rpartition(": ")[2].split("-")[0] + (
            ".flac" if "silent" in clip.name else ".wav")]  # fmt: skip
        assert (clip.mark, clip.caption) == (song.mark, song.caption)
    tar = tmp_path / "out/train/000000.tar"
    with tar.open("r+b") as file:
        file.seek(600)
        file.write(bytes(1000))
    (bad,) = [clip for clip in Survey().of(str(tmp_path / "out"), progress=False) if clip.error]
    assert "000000.tar: " in bad.name


def test_a_template_decides_what_has_a_caption(music):
    heard = Survey(template="{mood}").of(str(music), progress=False)
    assert all(clip.error for clip in heard)
    assert sum("mood" in (clip.error or "") for clip in heard) >= 8


def test_the_command(command, music, tmp_path):
    said = command("check", f"data.root={music}", "workers=1", "out=seen")
    assert said.status == 1
    assert "4 of 12 cannot be read, e.g. cut.flac (" in said.err.splitlines()[-1]
    found = json.loads((tmp_path / "seen/check.json").read_text())
    assert (found["clips"], found["findings"]["silent"]) == (8, ["silent.flac"])
    assert found["seconds"] == pytest.approx(12.2 + 2 / 3, abs=0.1)
    silent = next(clip for clip in found["heard"] if clip["name"] == "silent.flac")
    assert silent["level"] is None
    assert (tmp_path / "seen/check.png").read_bytes().startswith(b"\x89PNG")
    for line in ("unreadable", "48000 Hz", "2 channels", "duplicate", "no caption"):
        assert line in said.out
    good = tmp_path / "good"
    good.mkdir()
    soundfile.write(good / "a.wav", sine(2), RATE)
    assert command("check", "data.root=good", "workers=1").status == 0
    said = command("check", "data.root=good", "workers=1", "strict=true")
    assert said.status == 1
    assert "error: found 1 no caption: see outputs/check/check.json" in said.err
    (good / "a.wav").write_bytes(b"junk")
    assert "nothing in data.root=good can be read" in command("check", "data.root=good").err


def test_mistakes_name_the_flag(command):
    for argv, line in (
        ([], "data.root"), (["data.root=/nowhere"], "data.root=/nowhere is not a folder"),
        (["data.root=/nowhere/{0..3}.tar"], "can be read"),
        (["data.root=.", "limits.silent=7"], "limits.silent must be a share"),
        (["data.root=."], "no audio file below data.root="),
    ):  # fmt: skip
        said = command("check", *argv)
        assert said.status == 1
        assert line in said.err.splitlines()[-1]
    with pytest.raises(UserError, match="not a folder"):
        Survey().of("/nowhere", progress=False)
