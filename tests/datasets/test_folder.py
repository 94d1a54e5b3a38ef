from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from glissando.datasets.base import Refused
from glissando.datasets.folder import Folder
from glissando.datasets.prepare import prepare
from glissando.datasets.shards import Shard, shard_paths
from glissando.errors import UserError


def sine(seconds: float, rate: int, hz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def write(path: Path, wave: np.ndarray, rate: int = 22050, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, **options)
    return path


def all_jobs(folder: Folder):
    return [job for jobs in folder.jobs().values() for job in jobs]


def only_clip(folder: Folder):
    (job,) = all_jobs(folder)
    return folder.make(job)


def test_files_of_many_kinds_and_odd_names_are_found(tmp_path):
    names = ["a b/c d.wav", "x.flac", "Übung, 練習.ogg", "deep/er/one.MP3", "C# 'solo' (1).aiff"]
    for name in names:
        write(tmp_path / name, sine(1, 22050), format="MP3" if name.endswith("MP3") else None)
    write(tmp_path / ".hidden.wav", sine(1, 22050))
    write(tmp_path / ".git/x.wav", sine(1, 22050))
    (tmp_path / "notes.md").write_text("no audio")
    folder = Folder(tmp_path)
    jobs = all_jobs(folder)
    assert {folder.make(job).attributes["file"] for job in jobs} == set(names)
    assert all(job.key.isascii() and not set(job.key) & set("./ ") for job in jobs)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_keeps_the_tone_and_the_length(tmp_path, rate):
    write(tmp_path / "a.flac", sine(2, rate), rate)
    clip = only_clip(Folder(tmp_path, sample_rate=22050))
    assert clip.wave.shape == (1, 44100)
    assert clip.wave.dtype == np.float32
    middle = slice(2000, -2000)
    assert np.abs(clip.wave[0] - sine(2, 22050))[middle].max() < 2e-3
    assert clip.attributes["seconds_total"] == 2.0


def test_channels(tmp_path):
    left, right = sine(1, 22050), sine(1, 22050, 880)
    write(tmp_path / "stereo/a.wav", np.stack([left, right], 1), subtype="FLOAT")
    write(tmp_path / "mono/a.wav", left, subtype="FLOAT")
    mono = only_clip(Folder(tmp_path / "stereo", channels=1)).wave
    assert np.abs(mono[0] - (left + right) / 2).max() < 1e-6
    stereo = only_clip(Folder(tmp_path / "stereo", channels=2)).wave
    assert np.abs(stereo - np.stack([left, right])).max() < 1e-6
    twice = only_clip(Folder(tmp_path / "mono", channels=2)).wave
    assert (twice[0] == twice[1]).all()
    with pytest.raises(Refused, match=r"2 channels where data\.channels=4"):
        only_clip(Folder(tmp_path / "stereo", channels=4))


@pytest.mark.parametrize("rate", [22050, 48000])
def test_windows_tile_the_file_without_seams(tmp_path, rate):
    write(tmp_path / "long.wav", sine(7.3, rate, 300), rate, subtype="FLOAT")
    folder = Folder(tmp_path, seconds=2.0)
    clips = [folder.make(job) for job in all_jobs(folder)]
    assert [clip.attributes["seconds_start"] for clip in clips] == [0, 2, 4, 6]
    assert {clip.attributes["seconds_total"] for clip in clips} == {7.3}
    assert [clip.wave.shape[1] for clip in clips[:3]] == [44100] * 3
    joined = np.concatenate([clip.wave[0] for clip in clips])
    error = np.abs(joined - sine(7.3, 22050, 300)[: len(joined)])
    assert len(joined) == pytest.approx(7.3 * 22050, abs=1)
    assert error[300:-300].max() < 2e-3  # also where two windows meet


def test_a_short_rest_is_left_out_and_an_exact_multiple_makes_no_extra(tmp_path):
    write(tmp_path / "a.wav", sine(4.3, 22050))
    assert len(all_jobs(Folder(tmp_path, seconds=2.0))) == 2
    assert len(all_jobs(Folder(tmp_path, seconds=2.0, shortest=0.2))) == 3
    write(tmp_path / "a.wav", sine(6.0, 22050))
    assert len(all_jobs(Folder(tmp_path, seconds=2.0))) == 3


def test_captions_by_precedence(tmp_path, capsys):
    for name in ("json", "txt", "table", "bare name"):
        write(tmp_path / f"{name}.wav", sine(1, 8000), 8000)
    for name in ("json", "txt"):
        (tmp_path / f"{name}.txt").write_text("from text\n", encoding="utf-8")
    (tmp_path / "json.json").write_text(json.dumps({"caption": "from json", "bpm": 90}))
    (tmp_path / "captions.csv").write_text("file,caption,mood\ntable.wav,from table,calm\n")
    folder = Folder(tmp_path)
    found = {job.path.stem: folder.make(job).attributes for job in all_jobs(folder)}
    assert found["json"]["caption"] == "from json"
    assert found["json"]["bpm"] == 90
    assert found["txt"]["caption"] == "from text"
    assert (found["table"]["caption"], found["table"]["mood"]) == ("from table", "calm")
    assert found["bare name"]["caption"] == "bare name"
    said = capsys.readouterr().err
    assert said.count("take their file's name") == 1
    assert "1 of 4 files" in said


def test_a_template_makes_the_caption_of_any_field(tmp_path):
    write(tmp_path / "a.wav", sine(1, 8000), 8000)
    (tmp_path / "a.json").write_text(json.dumps({"title": "Aria", "genre": "baroque"}))
    clip = only_clip(Folder(tmp_path, caption="{title}, {genre}"))
    assert clip.attributes["caption"] == "Aria, baroque"
    with pytest.raises(Refused, match="mood"):
        only_clip(Folder(tmp_path, caption="{mood}"))


def test_sidecars_cannot_misstate_the_time(tmp_path):
    write(tmp_path / "a.wav", sine(1, 8000), 8000)
    (tmp_path / "a.json").write_text(json.dumps({"seconds_total": 999, "seconds_start": 5}))
    attributes = only_clip(Folder(tmp_path)).attributes
    assert (attributes["seconds_total"], attributes["seconds_start"]) == (1.0, 0.0)


def test_damaged_files_are_refused_with_the_reason_and_the_rest_kept(tmp_path):
    music = tmp_path / "music"
    for i in range(4):
        write(music / f"good {i}.wav", sine(2, 22050))
    whole = write(music / "cut.flac", np.random.default_rng(0).normal(0, 0.1, 44100)).read_bytes()
    (music / "cut.flac").write_bytes(whole[: len(whole) // 2])
    (music / "empty.wav").write_bytes(b"")
    (music / "junk.mp3").write_bytes(b"junk " * 999)
    (music / "itunes.m4a").write_bytes(b"....ftypM4A ")
    write(music / "short.wav", sine(0.1, 22050))
    (music / "good 0.json").write_text("[1, 2]")
    write(music / "silent.wav", np.zeros(44100))
    report = prepare(Folder(music, seconds=1.0), tmp_path / "out", progress=False)
    reasons = {keys[0].split("-")[0]: reason for reason, keys in report.refused.items()}
    assert set(reasons) == {"cut", "empty", "junk", "itunes", "short", "good"}
    assert reasons["empty"] == "empty file"
    assert "shorter than 0.5 s" in reasons["short"]
    assert "convert" in reasons["itunes"]
    assert "not an object" in reasons["good"]
    assert report.clips >= 3 * 2 + 2  # silence is music too: `check` warns of it
    captions = {
        json.loads(shard.member(sample, "json"))["caption"]
        for split in ("train", "valid", "test")
        for shard in map(Shard, shard_paths(tmp_path / "out", split))
        for sample in shard.samples
    }
    assert {"good 1", "good 2", "good 3", "silent"} <= captions


def test_nothing_readable_or_no_folder_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"data\.root=.* is not a folder"):
        Folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no audio file"):
        Folder(tmp_path).jobs()
    for name in ("sample_rate", "channels"):
        with pytest.raises(UserError, match=rf"data\.{name} must be at least 1, not 0"):
            Folder(tmp_path, **{name: 0})
    (tmp_path / "a.wav").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"every one of 1 clips was refused.*not readable"):
        prepare(Folder(tmp_path), tmp_path / "out", progress=False)


def test_windows_of_one_file_and_files_of_one_group_share_a_split(tmp_path):
    for i in range(30):
        write(tmp_path / f"{i}.wav", sine(1.2, 8000), 8000)
        (tmp_path / f"{i}.json").write_text(json.dumps({"group": f"album {i // 3}"}))
    splits = {"train": 0.6, "valid": 0.2, "test": 0.2}
    jobs = Folder(tmp_path, seconds=0.5, splits=splits).jobs()
    groups = {split: {job.group for job in jobs[split]} for split in jobs}
    assert all(groups.values())
    assert sum(map(len, groups.values())) == 10
    assert sum(map(len, jobs.values())) == 60


def test_a_new_file_moves_no_other_and_another_seed_does(tmp_path):
    for i in range(40):
        write(tmp_path / f"{i}.wav", sine(0.6, 8000), 8000)

    def split_of(**options):
        jobs = Folder(tmp_path, **options).jobs()
        return {job.path.name: split for split in jobs for job in jobs[split]}

    before = split_of()
    write(tmp_path / "new.wav", sine(0.6, 8000), 8000)
    after = split_of()
    assert {name: after[name] for name in before} == before
    assert split_of(seed=1) != after


def test_small_folders_still_have_a_validation_set(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.wav", sine(0.6, 8000), 8000)
        counts = {split: len(jobs) for split, jobs in Folder(tmp_path).jobs().items()}
        assert sum(counts.values()) == i + 1
    assert counts == {"train": 1, "valid": 1, "test": 1}
