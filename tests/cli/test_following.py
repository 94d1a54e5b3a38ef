"""Controls from the cached curve to the sound that follows another, on a tiny run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from glissando.build import encoded, rebuilt
from glissando.controls import Dynamics, Melody
from glissando.datasets.shards import read_dataset
from glissando.datasets.stream import open_stream
from glissando.errors import UserError
from glissando.generation import Generator, load
from glissando.samplers.euler import Euler
from tiny import DIT, RATE, Said, Train, refused

CONTROLS = [
    "conditioner=controls", "conditioning=[adaln_zero,channel_concat]",
    "representation=mel", "representation.bands=16", "representation.vocoder=griffin_lim",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("controls") / "run"
    train(folder, *DIT, *CONTROLS, "trainer.max_steps=4", "optimizer.lr=1e-2", "schedule.warmup=0",
          "ema=null", "loader.seconds=0.7")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def model(run: Path) -> Generator:
    return load(str(run), "cpu")


def tone(hz: float, seconds: float = 0.7, level: float = 0.3) -> np.ndarray:
    return level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


def test_another_control_is_another_sound(model: Generator) -> None:
    low, high, soft = (
        torch.from_numpy(wave).float()[None]
        for wave in (tone(440), tone(660), tone(440, level=0.01))
    )

    def made(attributes: dict | None) -> torch.Tensor:
        clips = model.generate([""], 0.7, 0, Euler(2), attributes=attributes)
        return clips[0].wave

    a, again, b, c = (made(model.follow(wave)) for wave in (low, low, high, soft))
    assert torch.equal(a, again)
    melody = ["melody"]
    assert torch.equal(made(model.follow(low, melody)), made(model.follow(soft, melody)))
    assert not torch.equal(made(model.follow(low, melody)), made(model.follow(high, melody)))
    free = made(None)
    for one, two in ((a, b), (a, c), (a, free), (a, made(model.follow(low, melody)))):
        assert (one - two).abs().max() > 1e-4


def test_a_curve_may_be_given_as_numbers(model: Generator) -> None:
    loud = model.generate([""], 0.7, 0, Euler(2), attributes={"dynamics": [-10.0] * 35})
    soft = model.generate([""], 0.7, 0, Euler(2), attributes={"dynamics": [-60.0] * 35})
    assert not torch.equal(loud[0].wave, soft[0].wave)


@pytest.mark.parametrize("names", [["tune"], [], "melody"])
def test_what_the_model_does_not_follow_is_refused(model: Generator, names: list) -> None:
    with pytest.raises(UserError, match=r"^follow=.* must be a list of some of .*rhythm"):
        model.follow(torch.zeros(1, 800), names)


def test_a_model_without_controls_says_how_to_train_one(model: Generator) -> None:
    from glissando.conditioners import Conditioners

    plain = Generator(model.representation, Conditioners(), model.denoiser)
    with pytest.raises(UserError, match=r"control= has no effect.*conditioner=controls"):
        plain.follow(torch.zeros(1, 800))


def test_the_command_line_follows_a_file(
    command: Callable[..., Said], run: Path, model: Generator, tmp_path: Path
) -> None:
    file = "my tune, no. 1 (a=b).wav"
    stereo = np.stack([tone(440, 0.9)] * 2, 1)
    soundfile.write(file, np.repeat(stereo, 2, 0), 2 * RATE)
    said = command("sample", f"ckpt={run}", "prompt=", f"control={file}", "sampler.steps=2",
                   "follow=[melody,rhythm]", "out=clips")  # fmt: skip
    assert said.status == 0, said.err
    told = json.loads(Path("clips/000.json").read_text())
    assert (told["control"], told["follow"]) == (file, ["melody", "rhythm"])
    assert told["seconds"] == 0.9  # the control's
    assert soundfile.info("clips/000.wav").frames == round(0.9 * RATE)
    refused(command("sample", f"ckpt={run}", "prompt=", "follow=[melody]"),
            "follow= needs control=")  # fmt: skip
    refused(command("sample", f"ckpt={run}", "prompt=", "control=no.wav"), "no.wav: no such audio")


def test_curves_lie_beside_latents_and_follow_crops(
    songs: Path, model: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glissando.datasets.folder import Folder
    from glissando.datasets.prepare import prepare

    monkeypatch.chdir(tmp_path)
    prepare(Folder(str(songs), sample_rate=RATE), tmp_path / "shards", progress=False)
    form = rebuilt(model.representation.recipe)
    controls = {"melody": Melody(), "dynamics": Dynamics()}
    latents = encoded(tmp_path / "shards", form, controls)
    assert encoded(tmp_path / "shards", form, controls) == latents
    folders = {encoded(tmp_path / "shards", form, other) for other in (
        None, {}, {"melody": Melody()}, {"melody": Melody(low=100)})}  # fmt: skip
    assert len(folders | {latents}) == 4
    assert {len(read_dataset(f)["settings"].get("curves", "")) for f in folders} == {0, 8}
    conditioners = model.conditioners
    (audio,) = open_stream(tmp_path / "shards", "valid", None, 9, train=False)
    whole = conditioners(
        [{n: c(w, RATE) for n, c in controls.items()} for w in audio.waveform], frames=47
    )
    crops = 0
    for batch in open_stream(latents, "valid", 0.5, 9, train=True):
        frames = batch.latent.shape[-1]
        found = conditioners(batch.attributes, frames=frames)
        for row, (key, facts) in enumerate(zip(batch.keys, batch.attributes, strict=True)):
            first = round(facts["crop_start"] * RATE / form.hop)
            source = audio.keys.index(key)
            for name in controls:
                wanted = whole[name].value[source, ..., first : first + frames]
                torch.testing.assert_close(
                    found[name].value[row], wanted, atol=2e-2, rtol=2e-2, msg=name
                )
            crops += first > 0
    assert crops
