from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from glissando.build import complete, ranges, trained
from glissando.checkpoints.files import Stored, read
from glissando.cli.conf import pretrained_dir
from glissando.errors import UserError
from glissando.generation import load
from tiny import DIT, GAN, VAE, Train, numbers, stored


@pytest.fixture(scope="session")
def dit(train: Train, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dit")
    train(folder, *DIT, f"representation.autoencoder={vae}", "trainer.max_steps=2")
    return folder


def test_an_autoencoder_that_was_never_validated_is_refused(train: Train, tmp_path: Path) -> None:
    train(tmp_path / "vae", *VAE, "trainer.max_steps=1", "trainer.limit_val_batches=0")
    assert stored(tmp_path / "vae")["state_dict"]["representation.latent_std"].isnan().all()
    with pytest.raises(UserError, match="no latent statistics: its training never reached a valid"):
        train(tmp_path / "dit", *DIT, f"representation.autoencoder={tmp_path / 'vae'}")


def test_a_validated_one_is_measured(vae: Path) -> None:
    representation = trained(str(vae))
    assert representation.measured
    assert (representation.channels, representation.hop, representation.sample_rate) == (
        8,
        64,
        8000,
    )


def test_the_averaged_weights_are_what_is_used(vae: Path) -> None:
    state = trained(str(vae)).network.state_dict()
    for name, tensor in stored(vae)["ema"].items():
        torch.testing.assert_close(state[name], tensor, atol=0, rtol=0)


def test_a_missing_autoencoder_gives_the_training_command(train: Train, tmp_path: Path) -> None:
    line = r"representation\.autoencoder=/no/where does .*train\.py model=vae"
    with pytest.raises(UserError, match=line):
        train(tmp_path, *DIT, "representation.autoencoder=/no/where")


def test_a_denoiser_is_no_autoencoder(train: Train, tmp_path: Path, dit: Path) -> None:
    with pytest.raises(UserError, match="is a diffusion checkpoint"):
        train(tmp_path, *DIT, f"representation.autoencoder={dit}")


def test_data_of_another_rate_is_refused(train: Train, tmp_path: Path, vae: Path) -> None:
    more = ["data.sample_rate=4000", f"prepare.shards={tmp_path / 'shards'}"]
    with pytest.raises(UserError, match=r"set data\.sample_rate=8000"):
        train(tmp_path, *DIT, f"representation.autoencoder={vae}", *more)


def test_a_mechanism_with_nothing_to_read_is_refused(
    train: Train, tmp_path: Path, vae: Path
) -> None:
    more = ["conditioner=none", "conditioning=[adaln_zero,cross_attention]"]
    with pytest.raises(UserError, match="cross_attention has nothing to read"):
        train(tmp_path, *DIT, f"representation.autoencoder={vae}", *more)


@pytest.mark.parametrize("conditioning", ["[adaln_zero,cross_attention]", "prefix"])
def test_conditionings_train(train: Train, tmp_path: Path, vae: Path, conditioning: str) -> None:
    train(
        tmp_path, *DIT, f"representation.autoencoder={vae}", f"conditioning={conditioning}",
        "trainer.max_steps=1",
    )  # fmt: skip
    assert float(numbers(tmp_path)[0]["train/loss"]) > 0


def test_the_adversary_is_built_if_it_is_to_take_part(train: Train, tmp_path: Path) -> None:
    train(tmp_path / "never", *GAN, "trainer.max_steps=2")
    train(tmp_path / "soon", *GAN, "trainer.max_steps=3", "discriminator_optimizer.lr=5e-4")
    for name, expected in (("never", False), ("soon", True)):
        names = stored(tmp_path / name)["state_dict"]
        assert any(each.startswith("discriminator.") for each in names) is expected
    assert "train/adversarial" in numbers(tmp_path / "soon")[2]
    rates = [
        state["param_groups"][0]["initial_lr"]
        for state in stored(tmp_path / "soon")["optimizer_states"]
    ]
    assert rates == [1e-3, 5e-4]


def test_training_returns_the_metric(train: Train, tmp_path: Path) -> None:
    value = train(tmp_path, *VAE, "trainer.max_steps=2")
    assert value == pytest.approx(float(numbers(tmp_path)[-1]["val/mel"]))


def test_what_a_checkpoint_says_of_its_data(dit: Path) -> None:
    said = stored(dit)["glissando"]
    assert said["data"]["window"] == pytest.approx(1.5)
    assert said["data"]["seen"]["seconds_total"] == [1.5, 1.5]
    assert said["config"]["model"]["width"] == 32
    assert said["kind"] == "diffusion"


def test_a_model_of_crops_makes_windows_of_their_length(
    train: Train, tmp_path: Path, vae: Path
) -> None:
    more = ["trainer.max_steps=1", "loader.seconds=0.5"]
    train(tmp_path, *DIT, f"representation.autoencoder={vae}", *more)
    assert stored(tmp_path)["glissando"]["data"]["window"] == 0.5


def test_ranges_of_what_is_a_number() -> None:
    clips: list[dict[str, Any]] = [
        {"bpm": 90, "key": "C", "live": True}, {"bpm": 60.5, "title": 3}, {},
    ]  # fmt: skip
    assert ranges(clips) == {"bpm": [60.5, 90], "title": [3, 3]}


@pytest.mark.parametrize("path", sorted(pretrained_dir().iterdir()), ids=lambda path: path.name)
def test_what_ships_loads_as_it_was_trained(path: Path) -> None:
    """No weight missing or renamed, and the autoencoder is the one that the model leans on."""
    shipped = read(path)
    if shipped.kind == "autoencoder":
        codec = trained(str(path))
        assert codec.state_dict().keys() == {
            name.removeprefix("representation.") for name in shipped.weights
        }
        assert codec.measured
    else:
        lean = shipped.facts["autoencoder"]
        assert trained(lean["name"]).fingerprint() == lean["fingerprint"]
        assert load(str(path)).representation.measured


def test_a_model_that_leans_on_a_shipped_autoencoder(
    dit: Path, vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read(dit / "checkpoints" / "last.ckpt")
    shared = trained(str(vae))
    own = {n: t for n, t in whole.weights.items() if not n.startswith("representation.")}
    lean = {"name": str(vae), "fingerprint": shared.fingerprint()}
    back = complete(Stored(whole.path, {**whole.facts, "autoencoder": lean}, own))
    assert back.keys() == whole.weights.keys()
    for name, tensor in whole.weights.items():
        torch.testing.assert_close(back[name], tensor, atol=0, rtol=0)
    other = {"name": str(vae), "fingerprint": "another"}
    with pytest.raises(UserError, match="trained on another autoencoder"):
        complete(Stored(whole.path, {**whole.facts, "autoencoder": other}, own))


def test_weight_norm_is_folded_in_use_and_kept_in_checkpoints(train: Train, tmp_path: Path) -> None:
    oobleck = [
        "model=vae_oobleck", "model.channels=4", "model.width=4", "model.multiples=[1,2]",
        "model.strides=[4,8]", *[each for each in VAE if each.startswith("loader")],
    ]  # fmt: skip
    train(tmp_path / "vae", *oobleck, "trainer.max_steps=1")
    shared = trained(str(tmp_path / "vae"))
    named = {name for name in shared.state_dict() if "parametrizations" in name}
    assert named
    more = [*DIT, f"representation.autoencoder={tmp_path / 'vae'}"]
    train(tmp_path / "dit", *more, "trainer.max_steps=1")
    assert {f"representation.{name}" for name in named} <= stored(tmp_path / "dit")[
        "state_dict"
    ].keys()
    # Encoded by a folded copy, filed under the weights as they are in the checkpoint.
    shards = Path(stored(tmp_path / "dit")["glissando"]["config"]["prepare"]["shards"])
    (latents,) = (shards.parent / "data" / "latents").glob(f"[!.]*{shared.fingerprint()}*")
    before = sorted(path.stat().st_mtime_ns for path in latents.rglob("*.tar"))
    train(tmp_path / "dit", *more, "trainer.max_steps=2", f"ckpt={tmp_path / 'dit'}")
    assert sorted(path.stat().st_mtime_ns for path in latents.rglob("*.tar")) == before
    used = load(str(tmp_path / "dit")).representation
    assert not any("parametrizations" in name for name in used.state_dict())
    wave = torch.randn(1, 1, 2000)
    with torch.no_grad():
        torch.testing.assert_close(used.encode(wave), shared.encode(wave), atol=1e-5, rtol=1e-5)
