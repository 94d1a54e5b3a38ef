"""The commands and the table of README.md, on tiny data."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from glissando.cli.conf import config_dir
from glissando.cli.console import COMMANDS
from glissando.cli.help import group_options, help_text
from glissando.cli.main import run
from tiny import DIT, RATE, SHORT, Said, numbers

ROOT = Path(__file__).resolve().parents[2]
CONF = config_dir()


def table() -> dict[str, set[str]]:
    """Group -> options, from the rows of README's table that have one group."""
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| .+ \|$", (ROOT / "README.md").read_text(), re.M)
    return {group: set(re.findall(r"`([a-z]\w*)`", cell)) for group, cell in rows}


@pytest.mark.parametrize("group", sorted(table()))
def test_the_table_names_every_option(group: str) -> None:
    assert table()[group] == set(group_options(CONF, group))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_every_key_and_group(name: str) -> None:
    text = help_text(f"glissando {name}", COMMANDS[name].config, CONF)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(COMMANDS[name].config, return_hydra_config=True)
    for group in cfg.hydra.runtime.choices:
        if not group.startswith(("hydra/", "stage")):
            lines = [line for line in text.splitlines() if line.split()[:1] == [group]]
            assert len(lines) == 1, group
    own = OmegaConf.load(CONF / f"{COMMANDS[name].config}.yaml")
    for key in set(own) - {"defaults", "hydra"}:
        assert re.search(rf"^  {key}\b", text, re.M), key


def test_prepare_encode_train_and_sample(
    command: Callable[..., Said], songs: Path, vae: Path
) -> None:
    data = ["data=folder", f"data.root={songs}", f"data.sample_rate={RATE}", "data.seconds=0.5"]
    autoencoder = f"representation.autoencoder={vae}"
    said = command("prepare", *data, "prepare.workers=1")
    assert said.status == 0, said.err
    assert re.search(r"prepared: data/shards/folder-\w+", said.out)
    said = command("encode", *data, autoencoder)
    assert said.status == 0, said.err
    assert re.search(r"encoded: data/latents/folder-\w+", said.out)
    run_folder = "hydra.run.dir=outputs/mine"
    training = [*SHORT, *DIT, *data, autoencoder, run_folder, "ckpt=last"]
    for steps in (2, 3):  # what a requeued job does
        said = command("train", *training, f"trainer.max_steps={steps}")
        assert said.status == 0, said.err
        assert "preparing" not in said.err
        assert "encoding" not in said.err
    assert [row["step"] for row in numbers(Path("outputs/mine"))] == ["1", "2", "3"]
    assert Path("outputs/mine/config.yaml").is_file()
    said = command("sample", "ckpt=last", "prompt=warm piano, 90 bpm", "sampler=heun",
                   "sampler.steps=2", "guidance.scale=6", "out=album")  # fmt: skip
    assert said.status == 0, said.err
    assert said.out.splitlines()[-1] == "listen: album/index.html"


def test_a_sweep_over_conditionings_returns_each_metric(
    songs: Path, vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glissando.training.fit import train

    returned = []

    def spied(cfg: DictConfig) -> Any:
        returned.append((list(cfg.conditioning), train(cfg)))
        return returned[-1][1]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(sys, "argv", [
        "train.py", "-m", *SHORT, *DIT, "conditioning=adaln_zero,[prefix,cross_attention]",
        "data=folder", f"data.root={songs}", f"data.sample_rate={RATE}",
        f"representation.autoencoder={vae}", "trainer.max_steps=2", "hydra.sweep.dir=sweep",
    ])  # fmt: skip
    run("train", "train", spied)
    assert [names for names, _ in returned] == [["adaln_zero"], ["prefix", "cross_attention"]]
    for number, (_, metric) in enumerate(returned):
        assert metric == pytest.approx(float(numbers(Path(f"sweep/{number}"))[-1]["val/loss"]))
        assert Path(f"sweep/{number}/checkpoints/last.ckpt").is_file()


def flags_of_messages() -> Iterator[tuple[str, str]]:
    """(file, key) of each ``group.key=`` that a UserError's text names."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "UserError":
                for text in (
                    part.value for part in ast.walk(node) if isinstance(part, ast.Constant)
                ):
                    for key in re.findall(r"(?<![\w.>])([a-z_]+(?:\.[a-z_]+)+)=", str(text)):
                        yield path.name, key


def test_a_flag_that_an_error_names_exists() -> None:
    known = set()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for root in {command.config for command in COMMANDS.values()}:
            for more in ([], ["data=folder"], ["data=shards"]) if root != "sample" else ([],):
                known |= set(leaves(compose(root, more)))
        for more in (["model=vae", "text_encoder=t5"], ["model=unet"],
                     ["conditioning=channel_concat"], ["representation=mel"],
                     ["representation=complex_stft"], ["conditioner=controls"],
                     ["conditioning=cross_attention"], ["model=vocoder_bigvgan"],
                     ["representation=latent_mel"], ["model=vae", "bottleneck=fsq"]):  # fmt: skip
            known |= set(leaves(compose("train", more)))
        for one in (
            "guidance=autoguidance",
            "guidance=apg",
            *(f"ditto={each.stem}" for each in (CONF / "ditto").glob("*.yaml")),
        ):
            known |= set(leaves(compose("sample", [one])))
    flags = set(flags_of_messages())
    assert len(flags) > 20
    assert not {(name, key) for name, key in flags if key not in known}


def leaves(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in node:
        yield f"{prefix}{key}"
        if not node._is_missing() and isinstance(node._get_node(key), DictConfig):
            yield from leaves(node._get_node(key), f"{prefix}{key}.")  # type: ignore[arg-type]
