"""`sample.py` and `glissando encode` broken off: by Ctrl-C, and by a disk that is full."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import soundfile

import glissando
from tiny import DIT, RATE, Said, Train, refused

ROOT = Path(glissando.__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
Command = Callable[..., Said]


@pytest.fixture(scope="module")
def dit(train: Train, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a diffusion model."""
    folder = tmp_path_factory.mktemp("dit")
    train(folder, *DIT, f"representation.autoencoder={vae}", "trainer.max_steps=1", "ema=null")
    return folder


@contextmanager
def running(folder: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A Python script as a terminal starts it: in its own group, with Ctrl-C heard."""
    process = subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=ENVIRONMENT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        # Where the suite itself runs in the background, children inherit that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def interrupted(process: subprocess.Popen[str]) -> Said:
    """What the process leaves of itself after a terminal's Ctrl-C, which the whole group gets."""
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    said = Said(process.returncode, out, err)
    assert said.status == 130, said
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("interrupted: ")
    return said


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 180
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def whole_clips(folder: Path) -> int:
    """How many clips there are; every file is whole, and every sound has its facts and picture."""
    wavs = sorted(folder.glob("*.wav"))
    for wav in wavs:
        assert soundfile.info(wav).frames == RATE // 10
        assert json.loads(wav.with_suffix(".json").read_text())["prompt"] == "a tone"
        assert wav.with_suffix(".png").read_bytes()[-8:-4] == b"IEND"
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part")]
    return len(wavs)


@pytest.mark.slow
@pytest.mark.parametrize("work", [
    ["sampler.steps=100000"],
    ["ditto=intensity", "ditto.curve=0:-9", "ditto.tolerance=0", "ditto.iterations=99999",
     "sampler.steps=1"],
])  # fmt: skip
def test_ctrl_c_while_sampling_leaves_no_sound(dit: Path, tmp_path: Path, work: list[str]) -> None:
    clips = tmp_path / "clips"
    command = [str(ROOT / "sample.py"), f"ckpt={dit}", "prompt=a tone", f"out={clips}",
               "seconds=0.1", *work]  # fmt: skip
    with running(tmp_path, *command) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "sampling 1 clips: 0/100000 (0 %)\n":
            assert process.poll() is None, process.communicate()
        time.sleep(0.5)
        said = interrupted(process)
    assert said.out.startswith("sampling 1 clips: stopped at ")
    assert whole_clips(clips) == 0
    assert not list(clips.iterdir())


@pytest.mark.slow
def test_ctrl_c_while_writing_keeps_the_clips_that_are_whole(dit: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    command = [str(ROOT / "sample.py"), f"ckpt={dit}", "prompt=a tone", f"out={clips}", "n=100",
               "seconds=0.1", "sampler.steps=1"]  # fmt: skip
    with running(tmp_path, *command) as process:
        wait_for(clips / "001.wav", process)
        said = interrupted(process)
    kept = whole_clips(clips)
    assert 2 <= kept < 100
    assert f"writing: stopped at {kept}/100" in said.out
    page = (clips / "index.html").read_text()
    assert all(f"{number:03}.wav" in page for number in range(kept))


SLOWLY = """
import time
from glissando.representations.autoencoder import Autoencoder
encode = Autoencoder.encode
def slowly(self, wave):
    time.sleep(0.2)
    return encode(self, wave)
Autoencoder.encode = slowly
from glissando.cli.console import main
main()
"""


@pytest.mark.slow
def test_an_interrupted_encoding_goes_on(
    command: Command, vae: Path, songs: Path, tmp_path: Path
) -> None:
    data = ["data=folder", f"data.root={songs}", f"data.sample_rate={RATE}", "prepare.workers=1",
            "prepare.shards=shards", "prepare.samples_per_shard=1",
            f"representation.autoencoder={vae}"]  # fmt: skip
    assert command("prepare", *data[:-1]).status == 0
    (tmp_path / "slowly.py").write_text(SLOWLY)
    with running(tmp_path, "slowly.py", "encode", *data) as process:
        while not (early := sorted(Path("data/latents").glob("*/train/000001.tar"))):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        said = interrupted(process)
    assert "encoding shards: stopped at " in said.err
    assert said.err.splitlines()[-1].startswith("interrupted: whole shards are kept")
    (root,) = Path("data/latents").iterdir()
    assert not (root / "dataset.json").exists()
    assert not list(root.rglob("*.part"))
    before = early[0].stat().st_mtime_ns
    assert command("encode", *data).status == 0
    assert early[0].stat().st_mtime_ns == before
    cut = {
        path.relative_to(root): path.read_bytes() for path in root.rglob("*.*") if path.is_file()
    }
    root.rename("cut")
    assert command("encode", *data).status == 0
    assert cut == {p.relative_to(root): p.read_bytes() for p in root.rglob("*.*") if p.is_file()}


def test_no_space_left_while_clips_are_written(
    command: Command, dit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_later(file: Any) -> None:
        if Path("clips/000.wav").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_later)
    said = command("sample", f"ckpt={dit}", "prompt=a tone", "n=3", "seconds=0.1",
                   "sampler.steps=1", "out=clips")  # fmt: skip
    refused(said, "no space left on the disk: free some, or write elsewhere (")
    assert "out=" in said.err
    assert whole_clips(Path("clips")) == 1


@pytest.mark.slow
def test_a_disk_that_is_really_full(dit: Path, tmp_path: Path) -> None:
    """A file system of 400 kB, mounted where only this test's processes see it."""
    (tmp_path / "clips").mkdir()
    mount = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=400k none clips && "$@" ; '
             "status=$?; cp -a clips kept; exit $status", "sh"]  # fmt: skip
    try:
        subprocess.run([*mount, "true"], cwd=tmp_path, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system lets nobody mount")
    done = subprocess.run(
        [*mount, sys.executable, str(ROOT / "sample.py"), f"ckpt={dit}", "prompt=a tone", "n=100",
         "seconds=0.1", "sampler.steps=1", "out=clips"],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    refused(Said(done.returncode, done.stdout, done.stderr), "no space left on the disk")
    kept = whole_clips(tmp_path / "kept" / "clips")
    assert 1 <= kept < 100
    assert f"writing: stopped at {kept}/100" in done.stdout
