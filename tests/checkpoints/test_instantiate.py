from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glissando.checkpoints.instantiate import ROOMS, check_targets, instantiate
from glissando.errors import UserError


@pytest.mark.parametrize("target", [
    "os.system", "builtins.eval", "subprocess.run", "torch.load", "torch.hub.load",
    # Names that begin like ours and pass through a module into what it imports.
    "glissando.networks.dit.torch.load", "glissando.networks.dit.torch.os.system",
    "glissando.conditioners.text.Path", "glissando.representations.autoencoder.hashlib.sha256",
    "torch.nn.functional.torch.os.system", "torch.nn.modules.module.torch.load",
    "torch.nn.init.constant_", "torch.nn.Module.__init__.__globals__.get",
    # Ours, but able to write files or run commands.
    "glissando.files.write_whole", "glissando.cli.main.run", "glissando.checkpoints.facts.git_hash",
    "glissando.networks", "glissando_networks.x", 7,
])  # fmt: skip
def test_a_file_cannot_call_what_it_likes(target: Any) -> None:
    nested = {"model": [{"a": {"_target_": target, "_args_": ["touch /nowhere/at/all"]}}]}
    with pytest.raises(UserError, match=r"no part of a model|cannot be found"):
        check_targets(nested)


def test_interpolations_cannot_smuggle_one_in() -> None:
    for text in ('${oc.decode:"{_target_: os.system}"}', "${other.node}"):
        with pytest.raises(UserError, match="unresolved"):
            check_targets({"model": text})


@pytest.mark.parametrize("target", [
    "glissando.networks.dit.DiT", "glissando.representations.autoencoder.Autoencoder",
    "glissando.diffusion.path_beta.DiscreteBeta.linear", "glissando.conditioners.Conditioners",
    "torch.nn.GELU",
])  # fmt: skip
def test_models_may_be_built(target: str) -> None:
    check_targets({"_target_": target, "width": 3, "x": [{"_target_": target}]})


def test_every_model_yaml_may_be_built() -> None:
    from omegaconf import OmegaConf

    from glissando.cli.conf import config_dir

    def targets(node: Any) -> Any:
        if isinstance(node, dict):
            if "_target_" in node:
                yield node["_target_"]
            for value in node.values():
                yield from targets(value)

    found = set()
    for group in ("model", "conditioning", "conditioner", "objective", "text_encoder"):
        for path in (Path(config_dir()) / group).glob("**/*.yaml"):
            found |= set(targets(OmegaConf.to_container(OmegaConf.load(path))))
    assert len(found) > 20
    for target in found:
        check_targets({"_target_": target})
    assert all(room.startswith("glissando.") for room in ROOMS)


def test_our_errors_come_out_of_hydra_as_themselves() -> None:
    broken = {"_target_": "glissando.datasets.folder.Folder", "root": "/nowhere/at/all"}
    with pytest.raises(UserError, match=r"data\.root=/nowhere/at/all is not a folder"):
        instantiate(broken)
