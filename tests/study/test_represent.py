"""``glissando represent``: every representation in one table, on tones in place of music."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from glissando.checkpoints.files import locate, read
from glissando.cli.conf import config_dir
from tiny import MEL, RATE, SHORT, VAE, Command, Train, refused, stored

VOCODER = [
    "model=vocoder", "representation.n_fft=256", "representation.hop=64", "representation.bands=24",
    "model.width=16", "model.depth=1", "loader.seconds=0.25", "loader.batch_size=4",
    "loader.workers=0", "reconstruction.sizes=[256,64]", "trainer.max_steps=4",
]  # fmt: skip
SHIPPED = sorted(path.stem for path in (config_dir() / "representation").glob("*.yaml"))
EXACT = ("waveform", "complex_stft")


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "table.csv").open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def vocoder(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocoder") / "run"
    train(folder, *VOCODER)
    return folder


@pytest.fixture(scope="module")
def mel_vae(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mel_vae")
    train(folder, *MEL, "trainer.max_steps=2")
    return folder


@pytest.fixture
def data(songs: Path) -> list[str]:
    return ["data=folder", f"data.root={songs}", f"data.sample_rate={RATE}", "prepare.workers=1",
            "data.splits={train:0.5,valid:0.25,test:0.25}"]  # fmt: skip


def test_every_representation_and_what_runs_have_trained(
    command: Command, data: list[str], vae: Path, mel_vae: Path, vocoder: Path
) -> None:
    runs = f'runs=["{vae}","{mel_vae}","{vocoder}"]'
    said = command("represent", *data, runs, "clips=2", "listen=1", "out=out")
    assert said.status == 0, said.err
    rows = table(Path("out"))
    learned = coded, drawn, sung = "latent_audio: vae", "latent_mel: vae", "spectrogram: vocoder"
    assert list(rows) == [*SHIPPED, *learned]
    for name in EXACT:
        assert float(rows[name]["si_sdr"]) > 60
        assert float(rows[name]["mel"]) < 1e-2
    assert 0 < float(rows["spectrogram"]["mel"]) < float(rows[sung]["mel"])  # of four steps
    # The shipped autoencoder is of another rate: a row without figures that says what to do.
    assert rows["latent_audio"]["fault"].startswith("the data has sample_rate 8000")
    assert not rows["latent_audio"]["si_sdr"]
    for name in learned:
        assert float(rows[name]["core_seconds"]) > 0
    assert float(rows["mel"]["core_seconds"]) == 0
    assert float(rows[coded]["values"]) == 8 * RATE / 64
    assert float(rows[drawn]["values"]) == 8 * 10 * RATE / 128
    assert float(rows[sung]["values"]) == 24 * RATE / 64
    text = Path("out/table.md").read_text()
    assert text in said.out
    assert f"- {sung}: `representation.vocoder={vocoder}`" in text
    assert "Not measured:\n\n- latent_audio" in text
    heard = sorted(path.stem for path in Path("out/listen").glob("*.wav"))
    measured = [name for name in rows if not rows[name]["fault"]]
    assert len(heard) == 1 + len(measured)
    assert heard[0] == "000-0-original"
    assert "000-1-mel-vocoder-griffin_lim" in heard
    for stem in heard:
        assert soundfile.info(f"out/listen/{stem}.wav").frames == round(1.5 * RATE)
        assert Path(f"out/listen/{stem}.png").is_file()
        assert f"{stem}.wav" in Path("out/listen/index.html").read_text()

    # Measured anew, a row takes its own place; the others stay.
    said = command("represent", *data, "representations=[waveform]", "clips=1", "listen=0",
                   "out=out")  # fmt: skip
    assert said.status == 0, said.err
    renewed = table(Path("out"))
    assert renewed.pop("waveform")["clips"] == "1"
    assert rows.pop("waveform")["clips"] == "2"
    assert renewed == rows


def test_mistakes_are_refused_before_data_is_made(
    command: Command, data: list[str], vae: Path
) -> None:
    def wrong(flag: str, line: str) -> None:
        refused(command("represent", *data, flag), line)
        assert not Path("data").exists()

    wrong("representations=[mell]", "representations=mell is none of complex_stft")
    wrong("representations=mel", "representations=mel: give a list, as in [mel,latent_audio]")
    wrong("representations=[latent_audio]", "the data has sample_rate 8000 and the autoencoder")
    wrong("runs=/no", "runs=/no does not exist")
    wrong("runs=demo", "runs=demo is a checkpoint of kind diffusion")
    wrong("clips=0", "clips must be a whole number from 1 on")


def test_a_run_ends_when_its_processor_time_is_up(train: Train, tmp_path: Path) -> None:
    """With a validation, hence with statistics of its latents; and says what it took."""
    free = [*VAE, "schedule=constant", "trainer.max_steps=-1"]
    train(tmp_path, *free, "core_seconds=1")
    last = stored(tmp_path)
    assert last["global_step"] >= 1  # on a crowded machine one takes as long
    assert last["state_dict"]["representation.latent_std"].isfinite().all()
    first = last["glissando"]["core_seconds"]
    assert first >= 1
    train(tmp_path, *free, f"core_seconds={first + 1}", "ckpt=last")
    assert stored(tmp_path)["global_step"] > last["global_step"]
    assert stored(tmp_path)["glissando"]["core_seconds"] >= first + 1


@pytest.mark.slow
def test_a_sweep_trains_for_equal_times_and_leaves_the_table(tmp_path: Path, songs: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    small = [each for each in VOCODER if each.startswith(("loader.seconds", "recon"))]
    command = [
        sys.executable, str(root / "train.py"), "-m", "experiment=representation_study",
        *[each for each in SHORT if each != "logger=csv"], "data=folder", f"data.root={songs}",
        f"data.sample_rate={RATE}", *small, "model=vae_oobleck,vocoder", "core_seconds=3",
        "loader.batch_size=2,0", "hydra.sweep.dir=sweep",
    ]  # fmt: skip
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 1  # batches of nothing fail; the others go on
    for number in (1, 3):
        assert f"run {number} failed, the others go on: loader.batch_size must be" in said.stderr
    rows = table(tmp_path / "sweep")
    assert list(rows) == [*SHIPPED, "latent_audio: vae_oobleck", "spectrogram: vocoder"]
    for number, name in ((0, "latent_audio: vae_oobleck"), (2, "spectrogram: vocoder")):
        took = float(rows[name]["core_seconds"])
        assert took >= 3
        assert took == read(locate(tmp_path / f"sweep/{number}")).facts["core_seconds"]
        assert rows[name]["si_sdr"]
    assert json.loads((tmp_path / "sweep/listen/000-0-original.json").read_text())["prompt"]


def test_what_a_row_is_called() -> None:
    from glissando.study.candidates import of_run

    candidate = of_run("vae")
    assert (candidate.name, candidate.flags) == (
        "latent_audio: vae", "representation.autoencoder=vae",
    )  # fmt: skip
    assert candidate.slug == "autoencoder-vae"
    assert of_run("vae_hifi").name == "latent_audio: vae_hifi"  # whatever its run was called
