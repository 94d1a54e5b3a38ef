"""The systems of the field under `experiment=`: each at published size, counted, and a tiny one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from glissando.build import bare_network, cascade, plain, representation, trained, untrained
from glissando.build.vocoders import spectrum_recipe
from glissando.checkpoints.instantiate import instantiate
from glissando.cli.conf import config_dir
from glissando.condition import Sizes
from glissando.networks.summary import parameters
from tiny import Command, numbers

CONF = config_dir()
README = Path(__file__).resolve().parents[1] / "README.md"
#: System -> parameters as counted here; README has them beside the published ones.
COUNTED = {
    "audioldm": 168_645_128,
    "audioldm2": 197_546_504,
    "audioldm_vae": 55_376_873,
    "dac_vae": 121_368_708,
    "dance_diffusion": 235_574_058,
    "ditto_base": 19_914_753,
    "edmsound": 40_144_898,
    "encodec": 15_183_842,
    "music_controlnet": 20_036_225,
    "musichifi": 14_018_945,
    "musichifi_bandwidth": 14_160_865,
    "musichifi_stereo": 14_018_945,
    "musicldm": 168_645_128,
    "presto_base": 558_743_936,
    "riffusion": 882_465_416,
    "riffusion_vae": 83_649_253,
    "stable_audio": 857_823_424,
    "stable_audio_open": 1_056_828_544,
    "stable_audio_open_vae": 156_112_514,
}
SYSTEMS = sorted(
    path.stem.removesuffix("_tiny") for path in (CONF / "experiment").glob("*_tiny.yaml")
)


#: Features of the text that a system reads, where they are not 768.
DIMS = {"audioldm": 512, "musicldm": 512, "audioldm2": 1024}


class Latents(torch.nn.Module):
    """In the place of an autoencoder that would have to be trained: Stable Audio's, or of mels."""

    freqs, hop, sample_rate, audio_channels = 1, 2048, 44100, 2

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__()
        self.channels = (
            cfg.representation.network.channels if "network" in cfg.representation else 64
        )


def composed(name: str) -> DictConfig:
    """A preset with text encoders of its sizes that need no weights."""
    chosen = ["text_encoder=hash", f"text_encoder.dim={DIMS.get(name, 768)}"]
    if name == "audioldm2":
        second = "conditioner.text_generated.encoder"
        chosen += [f"text_encoder@{second}=hash", f"{second}.dim=768"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", [f"experiment={name}", *chosen])


def built(name: str) -> tuple[torch.nn.Module, Sizes]:
    """The network on the meta device, and what it knows of a clip."""
    cfg = composed(name)
    if cfg.stage == "glissando.build.autoencoder":
        with torch.device("meta"):
            return untrained(cfg).network, {}
    groups = OmegaConf.create({k: cfg[k] for k in ("conditioning", "conditioner", "model")})
    config: Any = OmegaConf.to_container(
        OmegaConf.merge({"text_encoder": cfg.text_encoder}, groups), resolve=True
    )
    with torch.device("meta"):
        if cfg.stage == "glissando.build.generator":
            spectrum = spectrum_recipe(cfg.representation, cfg.input_rate)
            recipe = {**plain(cfg.generator), "spectrum": spectrum, "network": config["model"]}
            return instantiate(recipe).network, {}
        for each in config["conditioner"].values():
            if "encoder" in each:
                each["cache"] = None
        latent = "autoencoder" in cfg.representation
        made: Any = Latents(cfg) if latent else representation(cfg)
        return bare_network(config, made)


def test_every_system_is_counted() -> None:
    assert set(SYSTEMS) == set(COUNTED)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_at_its_published_size(name: str) -> None:
    network, _ = built(name)
    assert all(parameter.is_meta for parameter in network.parameters())
    assert parameters(network) == COUNTED[name]


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_readme_has_its_size(name: str) -> None:
    row = re.search(rf"^\| `{name}` \|.*$", README.read_text(), re.M)
    assert row, name
    assert f"| {COUNTED[name] / 1e6:,.1f} M" in row[0]
    assert f"`experiment={name}`" in row[0]


@pytest.mark.slow  # importing diffusers takes longer than all other tests here
def test_stable_audio_open_has_the_published_shapes() -> None:
    """As diffusers' classes have them by default, but for the zero biases of its norms."""
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        pairs = {
            "stable_audio_open": diffusers.StableAudioDiTModel(),
            "stable_audio_open_vae": diffusers.AutoencoderOobleck(),
        }
    for name, theirs in pairs.items():
        published = [
            _shape(key, weight)
            for key, weight in theirs.named_parameters()
            if not re.search(r"\.norm\d\.bias$", key)
        ]
        ours = [_shape(key, weight) for key, weight in built(name)[0].named_parameters()]
        assert sorted(_split(ours)) == sorted(_split(published)), name


def _shape(key: str, weight: torch.Tensor) -> tuple[str, tuple[int, ...]]:
    return key, tuple(n for n in weight.shape if n > 1)


def _split(named: list[tuple[str, tuple[int, ...]]]) -> list[tuple[int, ...]]:
    """Shapes, a fused projection of queries, keys and values as the parts that it consists of."""
    parts: list[tuple[int, ...]] = []
    for key, shape in named:
        pieces = 3 if "query_key_value" in key else 2 if "key_value" in key else 1
        parts += [(shape[0] // pieces, *shape[1:])] * pieces
    return parts


@pytest.mark.parametrize(
    ("name", "rate"),
    [("presto_base", 44100), ("stable_audio", 44100), ("stable_audio_open", 44100),
     ("audioldm", 16000), ("audioldm2", 16000), ("riffusion", 44100)],
)  # fmt: skip
def test_an_autoencoder_that_is_not_named(name: str, rate: int, command: Command) -> None:
    said = command("train", f"experiment={name}", "trainer=cpu", "logger=csv")
    assert said.status == 1
    line = rf"error: no autoencoder is named: set representation\.autoencoder= .* of {rate} Hz .*\n"
    assert re.fullmatch(line, said.err)


SHORT = [
    "data.clips=24", "trainer=cpu", "trainer.max_steps=20", "trainer.val_check_interval=20",
    "logger=csv", "callbacks.demo.every_n_steps=0", "callbacks.progress=false",
    "trainer.log_every_n_steps=1",
]  # fmt: skip


def trains(command: Command, name: str, run: Path, *overrides: str) -> None:
    """20 steps of ``experiment=<name>_tiny``, each with a finite loss."""
    said = command("train", f"experiment={name}_tiny", f"hydra.run.dir={run}", *SHORT, *overrides)
    assert said.status == 0, said.err
    losses = [float(row["train/loss"]) for row in numbers(run) if row.get("train/loss")]
    assert len(losses) == 20
    assert np.isfinite(losses).all()


def plays(command: Command, *overrides: str) -> tuple[np.ndarray, int]:
    """A second by ``sample.py``, neither silent nor broken: (L,) or (L, A), and its rate."""
    said = command("sample", "prompt=a flute", "seconds=1", "sampler=euler", "sampler.steps=8",
                   "device=cpu", *overrides)  # fmt: skip
    assert said.status == 0, said.err
    (out,) = [each.removeprefix("out=") for each in overrides if each.startswith("out=")]
    wave, rate = soundfile.read(Path(out) / "000.wav")
    assert len(wave) == rate
    assert np.isfinite(wave).all()
    assert wave.std() > 1e-4
    return wave, rate


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_tiny_system_trains_samples_and_decodes(
    name: str, command: Command, tmp_path: Path
) -> None:
    """On what ships, where it is one on latents."""
    run = tmp_path / "run"
    trains(command, name, run)
    cfg = composed(f"{name}_tiny")
    tone = 0.3 * torch.sin(torch.arange(cfg.data.sample_rate) / 8).expand(1, 1, -1)
    if cfg.stage == "glissando.build.diffusion":
        plays(command, f"ckpt={run}", "out=out")
        return
    if cfg.stage == "glissando.build.autoencoder":
        codec = trained(str(run))
        made = codec.decode(codec.encode(tone), tone.shape[-1])
    elif cfg.input_rate == cfg.data.sample_rate and cfg.data.channels == 1:
        cfg.representation.vocoder = str(run)
        codec = representation(cfg)
        made = codec.decode(codec.encode(tone), tone.shape[-1])
    else:
        parts = cascade([str(run)], torch.device("cpu"))
        assert parts.check(cfg.input_rate, 1) == (cfg.data.sample_rate, cfg.data.channels)
        given = tone[0, :, :: cfg.data.sample_rate // cfg.input_rate]
        made = parts(given)[None]
        assert made.shape == (1, cfg.data.channels, tone.shape[-1])
    assert made.isfinite().all()
    assert made.std() > 1e-4


@pytest.mark.slow
def test_music_controlnet_follows(command: Command, tmp_path: Path) -> None:
    """A sound that is followed makes another clip, and each control alone another again."""
    run = tmp_path / "run"
    trains(command, "music_controlnet", run, "optimizer.lr=1e-2", "ema=null")
    time = np.arange(22050) / 22050
    soundfile.write("in.wav", 0.3 * np.sin(2 * np.pi * 440 * time) * (time > 0.5), 22050)
    free, _ = plays(command, f"ckpt={run}", "out=free")
    made = [
        plays(command, f"ckpt={run}", "control=in.wav", *follow, f"out=out{number}")[0]
        for number, follow in enumerate(
            [[], ["follow=[melody]"], ["follow=[dynamics]"], ["follow=[rhythm]"]]
        )
    ]
    for number, clip in enumerate(made):
        for other in (free, *made[:number]):
            assert np.abs(clip - other).max() > 1e-4


@pytest.mark.slow
def test_musichifi_widens_what_a_mel_model_makes(command: Command, tmp_path: Path) -> None:
    """The three parts in their order: 11.025 kHz mono by its vocoder, 22.05 kHz, stereo."""
    parts = ("musichifi", "musichifi_bandwidth", "musichifi_stereo")
    vocoder, wide, stereo = (tmp_path / part for part in parts)
    for part in parts:
        trains(command, part, tmp_path / part)
    run = tmp_path / "run"
    trains(command, "ditto_base", run, "data.sample_rate=11025", "representation.bands=128",
           f"representation.vocoder={vocoder}")  # fmt: skip
    wave, rate = plays(command, f"ckpt={run}", f"cascade=[{wide},{stereo}]", "out=out")
    assert (wave.shape, rate) == ((22050, 2), 22050)
    assert np.abs(wave[:, 0] - wave[:, 1]).max() > 1e-6
