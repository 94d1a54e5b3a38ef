"""sample.py from its command line to the files it leaves, on a tiny model trained here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import glissando
from glissando.audio import read_audio
from glissando.checkpoints.instantiate import instantiate
from glissando.editing import FADE
from glissando.errors import UserError
from glissando.examples import EXAMPLES
from glissando.gallery import write
from glissando.generation import load
from glissando.spans import spans_of
from tiny import DIT, RATE, Said, Train, refused

ROOT = Path(glissando.__file__).resolve().parents[2]
QUICK = ["sampler.steps=2", "seconds=0.5"]


Sample = Callable[..., Said]


@pytest.fixture(scope="module")
def dit(train: Train, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a diffusion model."""
    folder = tmp_path_factory.mktemp("runs") / "outputs" / "2026-01-31" / "12-00-00-dit"
    train(folder, *DIT, f"representation.autoencoder={vae}", "trainer.max_steps=3",
          "optimizer.lr=1e-2", "schedule.warmup=0", "ema=null")  # fmt: skip
    return folder


@pytest.fixture
def sample(command: Callable[..., Said], dit: Path) -> Sample:
    """``python sample.py …`` of the tiny model, unless the line says ``ckpt=``."""

    def sample(*argv: str) -> Said:
        own = [] if any(argument.startswith("ckpt=") for argument in argv) else [f"ckpt={dit}"]
        return command("sample", *own, *argv)

    return sample


def facts(folder: Path, number: int = 0) -> dict[str, Any]:
    return json.loads((folder / f"{number:03}.json").read_text(encoding="utf-8"))


def clip(folder: Path, number: int = 0) -> bytes:
    return (folder / f"{number:03}.wav").read_bytes()


# ---- a whole process -------------------------------------------------------------------------


def test_the_script_writes_sound_pictures_facts_and_a_page(tmp_path: Path, dit: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "sample.py"), "ckpt=last", "prompt=a slow Irish air on flute",
         "n=2", *QUICK],
        cwd=dit.parents[2], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (page,) = dit.parents[1].glob("*/*-sample/index.html")
    assert f"listen: {page}" in done.stdout
    for number in (0, 1):
        wave, rate = soundfile.read(page.parent / f"{number:03}.wav")
        assert (len(wave), rate) == (RATE // 2, RATE)
        assert Image.open(page.parent / f"{number:03}.png").width > 100
        said = facts(page.parent, number)
        assert said["prompt"] == "a slow Irish air on flute"
        assert said["seed"] == number
        assert f"{number:03}.wav" in page.read_text()


# ---- prompts ---------------------------------------------------------------------------------


def test_without_a_prompt_it_says_which_examples_it_plays(sample: Sample) -> None:
    said = sample("out=clips", *QUICK)
    assert said.status == 0, said.err
    lines = [line.strip() for line in said.out.splitlines()]
    assert lines[0] == "no prompt= given; playing these examples:"
    assert lines[1 : 1 + len(EXAMPLES)] == EXAMPLES
    played = [facts(Path("clips"), number)["prompt"] for number in range(len(EXAMPLES))]
    assert played == EXAMPLES


# tests/cli/test_quoting.py has many more.
ODD = ["warm piano, 90 bpm", "fiddler's", "piano (solo)", "C#", "中文", "90"]


@pytest.mark.parametrize("prompt", ODD)
def test_a_prompt_is_taken_as_typed(sample: Sample, prompt: str) -> None:
    said = sample(f"prompt={prompt}", "out=clips", "sampler.steps=1", "seconds=0.1")
    assert said.status == 0, said.err
    assert facts(Path("clips"))["prompt"] == prompt


def test_a_prompt_file_has_a_prompt_a_line(sample: Sample, tmp_path: Path) -> None:
    text = "﻿a flute\n\n  warm piano, 90 bpm \r\n\t\n中文\n"  # a byte-order mark, blank lines
    (tmp_path / "my prompts, 1.txt").write_bytes(text.encode())
    said = sample("prompt_file=my prompts, 1.txt", "out=clips", *QUICK)
    assert said.status == 0, said.err
    prompts = [facts(Path("clips"), number)["prompt"] for number in range(3)]
    assert prompts == ["a flute", "warm piano, 90 bpm", "中文"]
    assert not Path("clips/003.wav").exists()


@pytest.mark.parametrize(("content", "line"), [
    (None, "prompt_file=p.txt does not exist"),
    (b"", "prompt_file=p.txt has no line with a prompt"),
    (b"\n \n", "prompt_file=p.txt has no line with a prompt"),
    (b"\xff\xfea\x00", "prompt_file=p.txt cannot be read as UTF-8 text"),
])  # fmt: skip
def test_a_prompt_file_that_is_none(sample: Sample, content: bytes | None, line: str) -> None:
    if content is not None:
        Path("p.txt").write_bytes(content)
    refused(sample("prompt_file=p.txt"), line)
    Path("folder").mkdir()
    refused(sample("prompt_file=folder"), "prompt_file=folder cannot be read as UTF-8 text")


def test_prompt_and_prompt_file_together(sample: Sample) -> None:
    refused(sample("prompt=a", "prompt_file=b"), "give prompt= or prompt_file=, not both")


# ---- how many, how long, which seed ----------------------------------------------------------


def test_seeds_count_on_and_a_clip_is_the_same_alone_and_among_others(sample: Sample) -> None:
    assert sample("prompt=a flute", "n=3", "seed=5", "out=three", *QUICK).status == 0
    assert [facts(Path("three"), number)["seed"] for number in range(3)] == [5, 6, 7]
    assert sample("prompt=a flute", "seed=6", "out=one", *QUICK).status == 0
    assert clip(Path("one")) == clip(Path("three"), 1)
    assert clip(Path("three"), 0) != clip(Path("three"), 1)
    assert sample("prompt=a flute", "n=3", "seed=5", "batch_size=1", "out=again", *QUICK)[0] == 0
    for suffix in ("wav", "png"):
        for number in range(3):
            files = [Path(name, f"{number:03}.{suffix}") for name in ("three", "again")]
            assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(("argument", "line"), [
    ("n=0", "n must be at least 1, not 0"),
    ("seconds=-1", "seconds must be above 0"),
    ("sampler.steps=0", "sampler.steps must be at least 1"),
    ("sampler.stpes=3", "unknown key sampler.stpes; did you mean sampler.steps?"),
    ("sampler=hoin", "unknown sampler=hoin; did you mean sampler=heun?"),
    ("strength=2", "strength must be between 0 and 1"),
    ("device=gpu", "device=gpu"),
    ("n=1.5", "n must be"),
    ("seed=1.5", "seed must be"),
    ("seed=99999999999999999999", "seed must be below 2^62"),
    ("sampler.steps=2.5", "sampler.steps must be a whole number, not 2.5"),
    ("guidance.interval=[3]", "guidance.interval is [low, high] in log-SNR, not [3]"),
])  # fmt: skip
def test_a_wrong_argument_is_one_line(sample: Sample, argument: str, line: str) -> None:
    soundfile.write("in.wav", np.zeros(RATE), RATE)
    more = ["init_audio=in.wav"] if argument.startswith("strength") else []
    refused(sample("prompt=a", argument, *more), line)
    assert not list(Path().glob("**/*.json"))


@pytest.mark.parametrize("seconds", [0.33337, 1.5, 2.2])
def test_a_clip_is_as_long_as_asked(sample: Sample, seconds: float) -> None:
    said = sample("prompt=a", f"seconds={seconds}", "out=clips", "sampler.steps=1")
    assert said.status == 0, said.err
    assert soundfile.info("clips/000.wav").frames == round(seconds * RATE)
    assert facts(Path("clips"))["seconds"] == seconds


# ---- which model -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["epoch=3-step=100.ckpt", "my model (1), b.ckpt"])
def test_a_file_with_an_odd_name_is_found(sample: Sample, dit: Path, name: str) -> None:
    Path(name).write_bytes((dit / "checkpoints" / "last.ckpt").read_bytes())
    said = sample(f"ckpt={name}", "prompt=a", "out=clips", *QUICK)
    assert said.status == 0, said.err
    assert facts(Path("clips"))["ckpt"] == name


def test_a_missing_checkpoint_lists_the_nearest(sample: Sample, dit: Path, tmp_path: Path) -> None:
    shutil.copytree(dit, tmp_path / "outputs" / "2026-01-31" / dit.name)
    said = sample("ckpt=outputs/2026-01-31/12-00-00-dti", "prompt=a")
    refused(said, "ckpt=outputs/2026-01-31/12-00-00-dti does not exist; nearest: ")
    assert "outputs/2026-01-31/12-00-00-dit" in said.err


def test_last_before_any_run_says_what_plays(sample: Sample) -> None:
    refused(sample("ckpt=last", "prompt=a"), "ckpt=last: no run with a checkpoint under outputs/")


def test_an_autoencoder_is_refused_with_the_way_on(sample: Sample, vae: Path) -> None:
    said = sample(f"ckpt={vae}", "prompt=a")
    refused(said, f"ckpt={vae} is an autoencoder checkpoint, which makes no music by itself")
    assert f"python train.py model=dit representation.autoencoder={vae}" in said.err


def test_a_torn_checkpoint_is_one_line(sample: Sample, dit: Path) -> None:
    Path("torn.ckpt").write_bytes((dit / "checkpoints" / "last.ckpt").read_bytes()[:5000])
    refused(sample("ckpt=torn.ckpt", "prompt=a"), "torn.ckpt cannot be read")


# ---- what is written -------------------------------------------------------------------------


def test_out_with_blanks_and_numbers_that_continue(sample: Sample) -> None:
    folder = Path("my album, no. 1 (best)")
    for _ in range(2):
        assert sample("prompt=a", "n=2", f"out={folder}", *QUICK).status == 0
    names = sorted(path.name for path in folder.glob("*.wav"))
    assert names == ["000.wav", "001.wav", "002.wav", "003.wav"]
    assert clip(folder, 0) == clip(folder, 2)  # the same seed: nothing was written over
    assert all(name in (folder / "index.html").read_text() for name in names)


def test_out_that_is_a_file_is_one_line(sample: Sample) -> None:
    Path("taken").write_text("")
    refused(sample("prompt=a", "out=taken", *QUICK), "out=taken")


@pytest.fixture
def recording() -> Path:
    """A sine of half a second, at another rate than the model's, in stereo."""
    time = np.arange(11025) / 22050
    wave = 0.4 * np.sin(2 * np.pi * 440 * time)
    soundfile.write("in, put.wav", np.stack([wave, wave], 1), 22050)
    return Path("in, put.wav")


def test_the_json_is_enough_to_make_the_clip_again(sample: Sample, recording: Path) -> None:
    said = sample(
        "prompt=fiddler's tune, 90 bpm", "negative_prompt=drums, loud", "seed=3", "n=2",
        "seconds=0.7", "sampler=dpmpp_2m_sde", "sampler.steps=4", "sampler/spacing=karras",
        "guidance=apg", "guidance.scale=5", "+attributes.seconds_total=1.2", "out=first",
        f"init_audio={recording}", "strength=0.7",
    )  # fmt: skip
    assert said.status == 0, said.err
    told = facts(Path("first"), 1)
    model = load(told["file"], "cpu")
    init, _ = read_audio(told["init_audio"], RATE, 1)
    again = model.generate(
        [told["prompt"]], told["seconds"], told["seed"], instantiate(told["sampler"]),
        instantiate(told["guidance"]), told["negative_prompt"], attributes=told["attributes"],
        init=torch.from_numpy(init), strength=told["strength"],
    )  # fmt: skip
    write(Path("again"), again)
    for suffix in ("wav", "png"):
        assert Path(f"again/000.{suffix}").read_bytes() == Path(f"first/001.{suffix}").read_bytes()


def test_a_negative_prompt_is_heard(sample: Sample) -> None:
    assert sample("prompt=a flute", "out=plain", *QUICK).status == 0
    assert sample("prompt=a flute", "negative_prompt=drums", "out=other", *QUICK).status == 0
    assert facts(Path("other"))["negative_prompt"] == "drums"
    assert facts(Path("other"))["evaluations"] == 2
    assert clip(Path("plain")) != clip(Path("other"))


def test_strength_goes_from_the_input_to_nothing_of_it(sample: Sample, recording: Path) -> None:
    arguments = ["prompt=a flute", "seconds=0.5", "sampler.steps=10"]
    assert sample(*arguments, "out=free").status == 0
    for strength in (0, 0.5, 1):
        said = sample(*arguments, f"init_audio={recording}", f"strength={strength}",
                      f"out={strength}")  # fmt: skip
        assert said.status == 0, said.err
        assert facts(Path(str(strength)))["strength"] == strength
    heard = {name: soundfile.read(f"{name}/000.wav")[0] for name in ("0", "0.5", "1", "free")}
    # 0 returns the input itself, up to the 16 bits of a file.
    given = read_audio(recording, RATE, 1)[0][0]
    np.testing.assert_allclose(heard["0"], given, atol=1 / 32768)
    np.testing.assert_array_equal(heard["1"], heard["free"])
    far = {name: np.linalg.norm(heard[name] - heard["0"]) for name in ("0.5", "1")}
    assert 0 < far["0.5"] < far["1"]


def test_init_audio_that_is_none(sample: Sample) -> None:
    refused(sample("prompt=a", "init_audio=no.wav"), "no.wav: no such audio file")
    Path("no.wav").write_text("not audio")
    refused(sample("prompt=a", "init_audio=no.wav"), "no.wav: cannot be read as audio")


# ---- a part made anew, and going on ----------------------------------------------------------

FADED = round(FADE * RATE)


def remade(told: dict[str, Any], folder: Path) -> bytes:
    """The wav that the Python interface makes of what a json tells."""
    sound, _ = read_audio(told.get("init_audio") or told["extend"], RATE, 1)
    clips = load(told["file"], "cpu").generate(
        [told["prompt"]], told["seconds"], told["seed"], instantiate(told["sampler"]),
        instantiate(told["guidance"]), told["negative_prompt"], init=torch.from_numpy(sound),
        strength=told.get("strength", 1.0),
        make=spans_of(told["inpaint"]) if "inpaint" in told else [],
    )  # fmt: skip
    write(folder, clips)
    return clip(folder)


def test_a_part_is_made_anew_and_the_rest_kept(sample: Sample, recording: Path) -> None:
    said = sample(
        "prompt=a flute", f"init_audio={recording}", "inpaint=[0.1-0.15, .3-0.4]",
        "sampler.steps=3", "n=2", "seed=5", "out=clips",
    )  # fmt: skip
    assert said.status == 0, said.err
    told = [facts(Path("clips"), number) for number in (0, 1)]
    sound, _ = read_audio(recording, RATE, 1)
    heard = [soundfile.read(f"clips/{number:03}.wav")[0] for number in (0, 1)]
    kept = np.ones(sound.shape[1], bool)
    for begin, end in ((800, 1200), (2400, 3200)):
        kept[begin - FADED : end + FADED] = False
    for wave in heard:
        assert wave.shape == kept.shape  # as long as the recording
        np.testing.assert_allclose(wave[kept], sound[0, kept], atol=1 / 32768)
        assert np.abs(wave - sound[0])[~kept].max() > 0.01
    np.testing.assert_array_equal(heard[0][kept], heard[1][kept])
    assert np.abs(heard[0] - heard[1]).max() > 0.01
    for one in told:
        assert one["init_audio"] == str(recording)
        assert one["inpaint"] == ["0.1-0.15", ".3-0.4"]
        assert (one["strength"], one["seconds"]) == (1.0, 0.5)
    assert remade(told[1], Path("again")) == clip(Path("clips"), 1)


def test_a_sound_goes_on(sample: Sample, recording: Path) -> None:
    said = sample("prompt=a flute", f"extend={recording}", "seconds=2", "sampler.steps=3",
                  "out=clips")  # fmt: skip
    assert said.status == 0, said.err
    told, (wave, _) = facts(Path("clips")), soundfile.read("clips/000.wav")
    assert len(wave) == 2 * RATE  # more than the window of 1.5 s
    sound = read_audio(recording, RATE, 1)[0][0, :-FADED]
    np.testing.assert_allclose(wave[: len(sound)], sound, atol=1 / 32768)
    assert np.abs(wave[RATE // 2 :]).max() > 0.01
    assert (told["extend"], told["seconds"]) == (str(recording), 2)
    assert "strength" not in told
    assert remade(told, Path("again")) == clip(Path("clips"))


def test_variations_are_as_long_as_their_sound(sample: Sample, recording: Path) -> None:
    said = sample("prompt=a flute", f"init_audio={recording}", "n=2", "sampler.steps=3",
                  "out=clips")  # fmt: skip
    assert said.status == 0, said.err
    assert soundfile.info("clips/001.wav").frames == RATE // 2
    assert facts(Path("clips"))["strength"] == 0.6
    assert clip(Path("clips"), 0) != clip(Path("clips"), 1)


@pytest.mark.parametrize(("arguments", "line"), [
    (["inpaint=0.1-0.2"], "inpaint= needs init_audio="),
    (["extend=in.wav", "init_audio=in.wav"], "give init_audio= or extend=, not both"),
    (["extend=in.wav", "seconds=2", "inpaint=0.1-0.2"], "inpaint= needs init_audio="),
    (["extend=in.wav"], "extend= needs seconds="),
    (["extend=in.wav", "seconds=0.5"],
     "extend= has nothing to add: the sound is 0.5 s long and seconds=, the length of the result, "
     "is 0.5"),
    (["extend=in.wav", "seconds=2", "strength=0.5"], "strength= needs init_audio="),
    (["strength=0.5"], "strength= needs init_audio="),
    (["init_audio=in.wav", "strength=much"], "strength must be a number, not much"),
    (["seconds=long"], "seconds must be a number, not long"),
    (["seconds=true"], "seconds must be a number, not True"),
    (["init_audio=in.wav", "inpaint=0.1-0.9"],
     "inpaint=0.1-0.9 is not inside the clip, 0.5 s long"),
    (["init_audio=in.wav", "inpaint=0.3-0.2"], "inpaint=0.3-0.2 is empty"),
    (["init_audio=in.wav", "inpaint=[0.1-0.3,0.2-0.4]"],
     "inpaint=0.1-0.3 and inpaint=0.2-0.4 overlap"),
    (["init_audio=in.wav", "inpaint="], "inpaint= is no span from-to in seconds: write inpaint=2"),
    (["init_audio=in.wav", "inpaint=[]"], "inpaint= is no span"),
])  # fmt: skip
def test_an_edit_that_cannot_be_is_one_line(
    sample: Sample, arguments: list[str], line: str
) -> None:
    soundfile.write("in.wav", np.zeros(RATE // 2), RATE)
    refused(sample("prompt=a", "out=clips", *arguments), line)
    assert not list(Path().glob("**/*.json"))


@pytest.mark.parametrize("text", [
    "", "1", "0.1-", "-0.2", "-0.1-0.2", "a-b", "0.1-0.2-0.3", "0.1:0.2", "0.1\u20130.2",
    "[0.1-0.2,]", "[[0.1-0.2]]", "nan-1", "0.1-inf", "1e1-20", "0.1-0.2 0.3-0.4",
])  # fmt: skip
def test_what_is_no_span_of_seconds(text: str) -> None:
    with pytest.raises(UserError, match=r"^inpaint=.* is no span from-to in seconds: write "):
        spans_of(text)


@pytest.mark.parametrize("text", [
    "2.0-4.5,7-8", "[2.0-4.5,7-8]", " [ 2 - 4.5 , 7.-8.0 ] ", ["2.0-4.5", "7-8"],
])  # fmt: skip
def test_spans_of_seconds(text: str | list[str]) -> None:
    assert spans_of(text) == [(2.0, 4.5), (7.0, 8.0)]


# ---- guidance by a second model --------------------------------------------------------------


def test_autoguidance_wants_a_checkpoint_and_remembers_which(sample: Sample, dit: Path) -> None:
    refused(sample("prompt=a", "guidance=autoguidance"), "guidance.ckpt has no value yet: set")
    said = sample("prompt=a", "guidance=autoguidance", "guidance.ckpt=no/where")
    refused(said, "guidance.ckpt=no/where does not exist")
    run = Path("outputs/weak/checkpoints")
    run.mkdir(parents=True)
    shutil.copy(dit / "checkpoints" / "last.ckpt", run)
    said = sample("prompt=a", "guidance=autoguidance", "guidance.ckpt=last", "guidance.scale=3",
                  "out=guided", *QUICK)  # fmt: skip
    assert said.status == 0, said.err
    assert facts(Path("guided"))["guidance"]["ckpt"] == "last"
    assert facts(Path("guided"))["companions"] == {"last": "outputs/weak/checkpoints/last.ckpt"}
    assert sample("prompt=a", "guidance=none", "out=plain", *QUICK).status == 0
    assert clip(Path("guided")) == clip(Path("plain"))  # away from itself: nowhere


def test_a_negative_prompt_that_nothing_uses_is_one_line(sample: Sample) -> None:
    said = sample("prompt=a", "guidance=none", "negative_prompt=drums", *QUICK)
    refused(said, "negative_prompt= has no effect on this guidance: use guidance=cfg")


# ---- a target --------------------------------------------------------------------------------


def test_noise_sought_for_a_target(sample: Sample) -> None:
    said = sample("prompt=a", "out=clips", "ditto=intensity", "ditto.curve=0:-40, 0.25:-12 0.5:-40",
                  "ditto.iterations=3", "ditto.smooth=0.1", *QUICK)  # fmt: skip
    assert said.status == 0, said.err
    assert "sampling 1 clips: 8/8 (100 %)" in said.out
    assert re.search(r"8/8 .*loss \d", said.out)
    told = facts(Path("clips"))
    assert told["ditto"]["curve"] == "0:-40, 0.25:-12 0.5:-40"
    search = told["search"]
    assert len(search["losses"]) == 3
    assert search["loss"] == pytest.approx(min(search["losses"]), rel=1e-4)
    assert len(search["wanted"]) == len(search["reached"]) == 25
    assert sample("prompt=a", "out=plain", *QUICK).status == 0
    assert clip(Path("plain")) != clip(Path("clips"))
    assert not facts(Path("plain")).keys() & {"ditto", "search"}


@pytest.mark.parametrize(("arguments", "line"), [
    (["ditto=intensity"], "give ditto.curve or ditto.reference, one of the two"),
    (["ditto=intensity", "ditto.curve=90"], "ditto.curve: '90' is not seconds:value"),
    (["ditto=intensity", "ditto.curve=0:-9", "ditto.lr=0"], "ditto.lr must be above 0"),
    (["ditto=intensity", "ditto.curve=0:-9", "ditto.lr=x"], "ditto.lr=x: wants a number"),
    (["ditto=intensity", "ditto.curve=0:-9", "ditto.steps=x"], "ditto.steps must be null or a"),
    (["ditto=intensity", "ditto.curve=0:-9", "ditto.ckpt=no"], "ditto.ckpt=no does not exist"),
    (["ditto=intensity", "ditto.curve=0:-9", "sampler=ode"], "ditto cannot differentiate this"),
    (["ditto=melody", "ditto.notes=0:H"], "ditto.notes: 'H' is no note"),
    (["ditto=structure", "ditto.reference=no.wav"], "no.wav: no such audio file"),
    (["ditto=inpaint", "ditto.keep=0-1"], "this target needs ditto.reference"),
    (["ditto=loudness"], "unknown ditto=loudness"),
    (["ditto.curve=0:-9"], "unknown key ditto.curve"),
])  # fmt: skip
def test_a_target_that_makes_no_sense(sample: Sample, arguments: list[str], line: str) -> None:
    quick = [] if "sampler=ode" in arguments else QUICK
    refused(sample("prompt=a", "out=clips", *arguments, *quick), line)
    assert not list(Path().glob("**/*.json"))
