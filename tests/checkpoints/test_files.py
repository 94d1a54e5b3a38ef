from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from glissando.checkpoints.facts import FORMAT, facts
from glissando.checkpoints.files import Stored, locate, read, read_training, write
from glissando.errors import UserError


def checkpoint(path: Path, **more: Any) -> Path:
    said = {**facts("diffusion", {"a": 1}, {"b": 2}), "averaged": "trained"}
    weights = {"trained.w": torch.arange(6.0).view(2, 3), "trained.v": torch.ones(3)}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": weights, "glissando": said, "global_step": 5, **more}, path)
    return path


class Malicious:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("container", ["pickle", "torch", "inside"])
def test_code_in_a_pickle_does_not_run(tmp_path: Path, container: str) -> None:
    mark, path = tmp_path / "ran", tmp_path / "evil.ckpt"
    evil = Malicious(mark)
    if container == "pickle":
        path.write_bytes(pickle.dumps(evil))
    elif container == "torch":
        torch.save(evil, path)
    else:
        checkpoint(path, callbacks={"x": evil})
    with pytest.raises(UserError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    torch.load(path, weights_only=False) if container != "pickle" else pickle.loads(
        path.read_bytes()
    )
    assert mark.exists()  # the same file does run it when trusted: the test tests something


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_a_truncated_file_is_one_line(tmp_path: Path, share: float) -> None:
    path = checkpoint(tmp_path / "torn.ckpt")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"torn\.ckpt") as caught:
        read_training(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {"glissando": 3}])
def test_foreign_files_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "foreign.ckpt")
    with pytest.raises(UserError, match="not a glissando checkpoint"):
        read(tmp_path / "foreign.ckpt")


def test_the_average_is_laid_over_the_weights(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.ckpt", ema={"v": torch.full((3,), 9.0)})
    assert read(path).weights["trained.v"].tolist() == [9, 9, 9]
    assert read(path).weights["trained.w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read(path, averaged=False).weights["trained.v"].tolist() == [1, 1, 1]


def test_shipped_folder_round_trip(tmp_path: Path) -> None:
    weights = {
        "trained.w": torch.randn(4, 5), "trained.big": torch.full((2, 2), 1e6),
        "trained.v": torch.randn(5), "representation.latent_std": torch.rand(1, 5, 1, 1),
        "trained.view": torch.randn(6, 3).mT, "discriminator.w": torch.randn(2, 2),
    }  # fmt: skip
    said = {**facts("diffusion", {"model": {"width": 3}}, {"x": [1, None]}), "averaged": "trained"}
    write(tmp_path / "model", Stored(tmp_path, said, weights))
    back = read(tmp_path / "model")
    assert back.facts == said
    assert set(back.weights) == set(weights) - {"discriminator.w"}
    for name, tensor in back.weights.items():
        assert tensor.dtype == torch.float32
        half = name in ("trained.w", "trained.view")
        expected = weights[name].half().float() if half else weights[name]
        torch.testing.assert_close(tensor, expected, atol=0, rtol=0)


def test_eight_bits_keep_a_weight_to_half_a_step(tmp_path: Path) -> None:
    weights = {
        "net.a": torch.randn(6, 5, 3) * torch.logspace(-6, 2, 6)[:, None, None],
        "net.zero": torch.zeros(2, 3), "net.bias": torch.randn(5), "other.a": torch.randn(4, 4),
    }  # fmt: skip
    said = {**facts("autoencoder", {}, {}), "averaged": "net"}
    write(tmp_path, Stored(tmp_path, said, weights), eight_bits=["net."])
    back = read(tmp_path).weights
    assert set(back) == set(weights)
    for name in ("net.a", "net.zero"):
        step = weights[name].flatten(1).abs().amax(1) / 127
        error = (back[name] - weights[name]).flatten(1).abs().amax(1)
        assert (error <= step * 0.501).all()
    for name in ("net.bias", "other.a"):
        torch.testing.assert_close(back[name], weights[name], atol=0, rtol=1e-3)


def test_facts_are_plain() -> None:
    said = facts("autoencoder", {"a": 1}, {"b": 2})
    assert said["format"] == FORMAT
    assert said["versions"]["torch"] == torch.__version__.split("+")[0] or said["versions"]["torch"]
    for value in said.values():
        assert type(value) in (int, str, dict, type(None))


def test_locate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrained, runs = tmp_path / "pretrained", tmp_path / "outputs"
    write(pretrained / "demo", read(checkpoint(tmp_path / "one.ckpt")))
    old = checkpoint(runs / "day" / "old" / "checkpoints" / "last.ckpt")
    new = checkpoint(runs / "day" / "new" / "checkpoints" / "last.ckpt")
    os.utime(old, (1, 1))

    def find(name: str | Path) -> Path:
        return locate(name, pretrained, runs)

    assert find("demo") == find(pretrained / "demo") == pretrained / "demo"
    assert find("last") == find(new.parent) == find(new.parents[1]) == find(new) == new
    with pytest.raises(UserError, match=r"ckpt=dmo does not exist; nearest: demo"):
        find("dmo")
    with pytest.raises(UserError, match=r"nearest: .*last\.ckpt"):
        find(new.with_name("lst.ckpt"))
    with pytest.raises(UserError, match="holds no checkpoint"):
        find(tmp_path)
    with pytest.raises(UserError, match="no run with a checkpoint"):
        locate("last", None, tmp_path / "nothing")
    monkeypatch.chdir(tmp_path / "pretrained")
    with pytest.raises(UserError, match="nothing was trained here yet"):
        locate("x", None, tmp_path / "nothing")
