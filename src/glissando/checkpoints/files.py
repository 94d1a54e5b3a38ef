"""Checkpoints on disk: found by name, read without trusting them, written small for shipping."""

from __future__ import annotations

import difflib
import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glissando.checkpoints.sharded import assembled, files_of, is_sharded, read_sharded
from glissando.errors import UserError

WEIGHTS = "model.safetensors"
FACTS = "model.yaml"
_SCALE = "#scale"  # of an int8 tensor's rows, beside it
PREVIOUS = "previous.ckpt"  # what last.ckpt was before
MODEL = "model.ckpt"  # of an artifact at Weights & Biases


@dataclass(frozen=True)
class Stored:
    """A checkpoint's weights (EMA where there is one) and what it says of itself."""

    path: Path
    facts: dict[str, Any]
    weights: dict[str, Tensor]

    @property
    def kind(self) -> str:
        return self.facts["kind"]


def locate(
    name: str | Path, pretrained: Path | None = None, runs: Path | None = None, flag: str = "ckpt"
) -> Path:
    """The checkpoint file or shipped folder that ``name`` means.

    A shipped model's name ("demo"), ``last`` (the newest run under ``runs``), a run folder, or a
    file. Raises UserError with ``flag``, where the name was given, and the nearest ones.
    """
    runs = runs or Path("outputs")
    if pretrained is not None and (pretrained / str(name) / WEIGHTS).is_file():
        return pretrained / str(name)
    if str(name) == "last":
        found = sorted(_run_checkpoints(runs), key=lambda path: path.stat().st_mtime)
        if not found:
            raise UserError(f"{flag}=last: no run with a checkpoint under {runs}/ yet")
        return found[-1]
    path = Path(name).expanduser()
    if path.is_dir() and not is_sharded(path):
        for inside in (path / n for n in (WEIGHTS, "checkpoints/last.ckpt", "last.ckpt", MODEL)):
            if inside.exists():
                return path if inside.name == WEIGHTS else inside
        raise UserError(f"{flag}={path} holds no checkpoint (checkpoints/last.ckpt or {WEIGHTS})")
    if path.exists():
        return path
    raise UserError(f"{flag}={name} does not exist; {_nearest(str(name), pretrained, runs)}")


def _run_checkpoints(runs: Path) -> list[Path]:
    return [*runs.glob("**/checkpoints/last.ckpt")]


def _nearest(name: str, pretrained: Path | None, runs: Path) -> str:
    shipped = [p.parent.name for p in pretrained.glob(f"*/{WEIGHTS}")] if pretrained else []
    trained = _run_checkpoints(runs)
    known = [*shipped, *(["last"] if trained else []), *(str(p.parents[1]) for p in trained)]
    known += [str(p) for p in runs.glob("**/checkpoints/*.ckpt")]
    known += [str(p) for p in Path(name).expanduser().parent.glob("*.ckpt")]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or known[:3]
    return f"nearest: {', '.join(close)}" if close else "nothing was trained here yet"


def whole(path: Path) -> Path:
    """``path``, if every byte of the checkpoint is as it was written (its parts carry CRCs).

    Raises UserError if not. Reading alone would notice a torn end, but not a changed weight.
    """
    damaged = next(filter(None, map(_damage, files_of(path))), None)
    if damaged is not None:
        earlier = path.with_name(PREVIOUS)
        hint = f"; ckpt={earlier} is the one before" if path != earlier and earlier.exists() else ""
        raise UserError(f"{path} is damaged ({damaged}){hint}")
    return path


def _damage(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        return str(error)


def read_training(path: Path, assemble: bool = True) -> dict[str, Any]:
    """A Lightning checkpoint as a plain dictionary, unpickling tensors and containers only.

    Of a sharded one the tensors are put together, or with ``assemble=False`` left as ``Pieces``.
    Raises UserError when it is torn, foreign, or holds anything that could run code.
    """
    checkpoint = read_sharded(path, _load) if is_sharded(path) else _load(path)
    ours = isinstance(checkpoint, dict) and isinstance(checkpoint.get("glissando"), dict)
    if not ours or "state_dict" not in checkpoint:
        raise UserError(f"{path} is not a glissando checkpoint (it does not say what it is)")
    return assembled(checkpoint) if assemble else checkpoint


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} is not a checkpoint of weights alone and was not opened: {reason}"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read ({reason}); is it whole?") from None


def read(path: Path, averaged: bool = True) -> Stored:
    """A training checkpoint, or a shipped folder, for use: weights with the EMA laid over them."""
    if path.is_dir() and not is_sharded(path):
        from omegaconf import OmegaConf
        from safetensors.torch import load_file

        said = OmegaConf.to_container(OmegaConf.load(path / FACTS))
        assert isinstance(said, dict)
        weights = _widened(load_file(path / WEIGHTS))
        return Stored(path, {str(k): v for k, v in said.items()}, weights)
    checkpoint = read_training(path)
    weights = dict(checkpoint["state_dict"])
    said = checkpoint["glissando"]
    if averaged:
        prefix = said["averaged"]
        for name, tensor in (checkpoint.get("ema") or {}).items():
            weights[f"{prefix}.{name}"] = tensor
    return Stored(path, said, weights)


def write(
    folder: Path, stored: Stored, dtype: torch.dtype = torch.float16, eight_bits: Sequence[str] = ()
) -> Path:
    """A shipped model: ``model.safetensors`` (large tensors in ``dtype``) and ``model.yaml``.

    Vectors, statistics and what would overflow ``dtype`` stay float32. Large tensors whose names
    begin with one of ``eight_bits`` become int8, each output row with a scale of its own (some 45
    dB below the weights). Discriminators are left out: they make no sound.
    """
    from omegaconf import OmegaConf
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    limit = torch.finfo(dtype).max
    kept = {}
    for name, tensor in stored.weights.items():
        if name.startswith("discriminator."):
            continue
        if tensor.ndim > 1 and name.startswith(tuple(eight_bits)):
            kept[name], kept[f"{name}{_SCALE}"] = _eight_bits(tensor)
            continue
        small = tensor.ndim < 2 or "latent_" in name or bool((tensor.abs() > limit).any())
        kept[name] = (tensor.float() if small else tensor.to(dtype)).contiguous().clone()
    save_file(kept, folder / WEIGHTS)
    OmegaConf.save(OmegaConf.create(stored.facts), folder / FACTS)
    return folder


def _eight_bits(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """(O, …) as int8 and the scales (O,) that make it what it was, nearly."""
    rows = tensor.float().flatten(1)
    scale = (rows.abs().amax(1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    return (rows / scale[:, None]).round().to(torch.int8).view(tensor.shape), scale


def _widened(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Everything in float32."""
    weights = {}
    for name, tensor in stored.items():
        if name.endswith(_SCALE):
            continue
        weights[name] = tensor.float()
        if tensor.dtype is torch.int8:
            scale = stored[f"{name}{_SCALE}"]
            weights[name] *= scale.view(-1, *[1] * (tensor.ndim - 1))
    return weights
