from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tones import Tones

from glissando.datasets.base import Clip
from glissando.datasets.dataset_folder import STARTED, is_prepared
from glissando.datasets.prepare import prepare
from glissando.datasets.shards import DATASET, read_dataset
from glissando.errors import UserError


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_dataset_json_and_report(tmp_path):
    report = prepare(Tones(25, valid=5, bad=(3, 7, 26)), tmp_path, samples_per_shard=10)
    facts = read_dataset(tmp_path)
    assert facts["source"] == "tones"
    assert facts["sample_rate"] == 8000
    assert facts["settings"] == {"seconds": 2.0, "channels": 1}
    train = facts["splits"]["train"]
    assert (train["shards"], train["samples"], train["counts"]) == (3, 23, [8, 10, 5])
    assert train["seconds"] == 46.0
    assert facts["splits"]["valid"]["samples"] == 4
    assert report.refused == {"bad on purpose": ["tone0003", "tone0007", "tone0026"]}
    assert "27 clips" in str(report)
    assert "3 refused: bad on purpose (3: tone0003" in str(report)


def test_the_number_of_processes_changes_no_byte(tmp_path):
    prepare(Tones(12), tmp_path / "one", workers=1, samples_per_shard=5, progress=False)
    prepare(Tones(12), tmp_path / "two", workers=2, samples_per_shard=5, progress=False)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_whole_shards_are_kept_and_only_new_clips_made(tmp_path):
    prepare(Tones(20, valid=0), tmp_path, samples_per_shard=10, progress=False)
    kept = (tmp_path / "train/000000.tar").stat().st_mtime_ns
    mark = read_dataset(tmp_path)["fingerprint"]
    # the source would now fail for every clip of the old shards, were it asked
    report = prepare(
        Tones(25, valid=0, bad=tuple(range(20))), tmp_path, samples_per_shard=10, progress=False
    )
    assert report.clips == 25
    assert (tmp_path / "train/000000.tar").stat().st_mtime_ns == kept
    assert read_dataset(tmp_path)["fingerprint"] != mark
    prepare(Tones(10, valid=0), tmp_path, samples_per_shard=10, progress=False)
    assert not (tmp_path / "train/000001.tar").exists()
    assert read_dataset(tmp_path)["fingerprint"] != mark


def test_other_settings_are_refused_by_the_flags_name(tmp_path):
    prepare(Tones(3), tmp_path, progress=False)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"data\.seconds=2\.0, 1\.0"):
        prepare(Tones(3, seconds=1.0), tmp_path, progress=False)
    with pytest.raises(UserError, match=r"prepare\.samples_per_shard=100, 7"):
        prepare(Tones(3), tmp_path, samples_per_shard=7, progress=False)
    with pytest.raises(UserError, match=r"prepare\.samples_per_shard must be at least 1"):
        prepare(Tones(3), tmp_path, samples_per_shard=0, progress=False)
    assert contents(tmp_path) == before
    assert is_prepared(tmp_path, "tones", Tones().settings())
    assert not is_prepared(tmp_path / "elsewhere", "tones", {})
    with pytest.raises(UserError, match="data=tones, scores"):
        is_prepared(tmp_path, "scores", {})


def test_overwrite_removes_the_datasets_files_and_no_others(tmp_path):
    (tmp_path / "train").mkdir(parents=True)
    (tmp_path / "train/mine.wav").write_bytes(b"precious")
    prepare(Tones(3), tmp_path, progress=False)
    report = prepare(Tones(3, seconds=1.0), tmp_path, progress=False, overwrite=True)
    assert report.seconds == 8.0
    assert (tmp_path / "train/mine.wav").read_bytes() == b"precious"


def test_every_clip_refused_is_an_error(tmp_path):
    with pytest.raises(UserError, match="every one of 4 clips was refused"):
        prepare(Tones(3, valid=1, bad=(0, 1, 2, 3)), tmp_path, progress=False)
    assert not (tmp_path / DATASET).exists()


class Odd(Tones):
    """Clips that cannot be written, each for another reason."""

    def make(self, job):
        clip = super().make(job)
        wave = clip.wave
        return {
            0: replace(clip, wave=wave * np.nan),
            1: replace(clip, wave=wave[:, :0]),
            2: replace(clip, attributes={"bpm": float("nan")}),
            3: replace(clip, key="other"),
            4: replace(clip, wave=wave * 100),
        }.get(job.number, clip)


def test_what_cannot_be_written_is_refused_with_its_reason(tmp_path):
    report = prepare(Odd(6, valid=0), tmp_path, progress=False)
    assert report.clips == 2  # one of them clipped at full scale
    reasons = {keys[0]: reason for reason, keys in report.refused.items()}
    assert "NaN" in reasons["tone0000"]
    assert reasons["tone0001"] == "no samples"
    assert "JSON" in reasons["tone0002"]
    assert "key" in reasons["tone0003"]


class Mixed(Tones):
    def make(self, job):
        clip = super().make(job)
        return Clip(clip.key, clip.wave, 8000 + job.number, clip.attributes)


def test_clips_of_two_sample_rates_are_an_error(tmp_path):
    with pytest.raises(UserError, match=r"data\.sample_rate"):
        prepare(Mixed(2), tmp_path, progress=False)


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    real = os.fsync
    calls = []

    def full_later(file):
        calls.append(file)
        if len(calls) > 9:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", full_later)
    with pytest.raises(UserError, match=r"No space left on device.*run it again") as error:
        prepare(Tones(20), tmp_path, samples_per_shard=5, progress=False)
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    names = {path.name for path in (tmp_path / "train").iterdir()}
    assert not [name for name in names if name.endswith(".part")]
    assert "000000.index.json" in names  # what was whole stays
    assert prepare(Tones(20), tmp_path, samples_per_shard=5, progress=False).clips == 25


def test_a_worker_that_dies_is_an_error_that_says_so(tmp_path):
    with pytest.raises(UserError, match="worker process died"):
        prepare(Tones(8, dies=5), tmp_path, workers=2, progress=False)


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
from tones import Tones
from glissando.datasets.prepare import prepare
if __name__ == "__main__":
    prepare(Tones(24, valid=4, pause=0.2), sys.argv[1], workers=2, samples_per_shard=4)
"""


def started(script: Path, root: Path) -> subprocess.Popen:
    script.write_text(SCRIPT.format(here=str(Path(__file__).parent)))
    return subprocess.Popen(
        [sys.executable, script, root],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the suite itself runs in the background, children inherit that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def living(session: int) -> list[int]:
    """Processes of a session, by /proc/<pid>/stat (field 6), zombies left out."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_goes_on_and_ends_the_same(tmp_path, signum):
    process = started(tmp_path / "run.py", tmp_path / "cut")
    wait_for(tmp_path / "cut/train/000001.index.json")
    if signum == signal.SIGINT:
        os.killpg(process.pid, signum)  # a terminal sends Ctrl-C to the whole group
    else:
        process.kill()
    process.wait(20)
    for _ in range(200):  # the workers end too, also when nobody tells them
        if not living(process.pid):
            break
        time.sleep(0.05)
    assert not living(process.pid)
    assert not (tmp_path / "cut" / DATASET).exists()
    assert (tmp_path / "cut" / STARTED).exists()
    if signum == signal.SIGINT:
        assert not list((tmp_path / "cut").rglob("*.part"))
    early = (tmp_path / "cut/train/000000.tar").stat().st_mtime_ns
    prepare(Tones(24, valid=4), tmp_path / "cut", samples_per_shard=4, progress=False)
    prepare(Tones(24, valid=4), tmp_path / "whole", samples_per_shard=4, progress=False)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert (tmp_path / "cut/train/000000.tar").stat().st_mtime_ns == early
    with pytest.raises(UserError, match=r"data\.seconds"):
        prepare(Tones(24, seconds=1.0), tmp_path / "cut", samples_per_shard=4, progress=False)


def test_an_unfinished_dataset_is_held_to_its_settings_too(tmp_path):
    with pytest.raises(UserError, match="worker process died"):
        prepare(Tones(8, dies=5), tmp_path, workers=2, progress=False)
    with pytest.raises(UserError, match=r"data\.channels=1, 2"):
        prepare(Tones(8, channels=2), tmp_path, progress=False)
