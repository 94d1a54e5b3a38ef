"""An audio dataset encoded once: the same samples as latents, float16, in shards of the same names.

``dataset.json`` says of which audio (its fingerprint) and by which representation, so that latents
of another autoencoder are never taken for these.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glissando.datasets.arrays import array_of
from glissando.datasets.base import SPLITS, Refused
from glissando.datasets.dataset_folder import claimed, finish, settle
from glissando.datasets.remote import Lost
from glissando.datasets.samples import AudioReader, attributes_of
from glissando.datasets.shards import (
    Shard,
    ShardWriter,
    fingerprint,
    is_whole,
    json_of,
    open_shards,
    read_dataset,
    whole_shard,
    write_json,
)
from glissando.errors import UserError
from glissando.progress import ERR, Bar, note

SUMS = "sums.json"
CURVES = "npz"
"""The member that holds what was computed of a clip's audio, float16 arrays by attribute."""
Encode = Callable[[Tensor], Tensor]
Curve = Callable[[Tensor, int], Tensor]


def encode_dataset(
    root: Path | str,
    out: Path | str,
    encode: Encode,
    representation: str,
    hop: int,
    batch_size: int = 16,
    progress: bool = True,
    overwrite: bool = False,
    curves: Mapping[str, Curve] | None = None,
    curves_mark: str = "",
) -> dict[str, Any]:
    """Encode every sample of the audio dataset ``root`` into the latent dataset ``out``.

    Shards already encoded by the same representation from the same audio are kept, so an
    interrupted run goes on. Clips of one length are encoded together; a clip never shares a call
    with a longer one, so padding cannot colour its latent.

    Args:
        encode: (B, C, L) float32 on the CPU -> (B, C', F, T); called without gradients.
        representation: a fingerprint of what ``encode`` computes (weights and settings).
        hop: audio samples per latent frame, at the dataset's sample rate.
        batch_size: most clips in one call.
        curves: by attribute what is computed of each clip's wave (C, L) at its rate, (D, n), and
            kept beside the latent; read, it is one of the clip's attributes.
        curves_mark: a fingerprint of what ``curves`` compute.

    Returns the new ``dataset.json``; its ``kind`` is "latent" and it has ``hop``, ``latent``
    ([C', F]), ``representation`` and ``audio`` (the audio dataset's fingerprint). Raises UserError
    when ``root`` is no audio dataset or ``out`` has latents of something else.
    """
    root, out = Path(root), Path(out)
    audio = read_dataset(root)
    if audio["kind"] != "audio":
        raise UserError(f"{root} holds {audio['kind']}s and not audio: encode data.root instead")
    asked = {
        "source": audio["source"],
        "samples_per_shard": audio["samples_per_shard"],
        "settings": {**audio["settings"], "representation": representation,
                     "audio": audio["fingerprint"], "hop": hop,
                     **({"curves": curves_mark} if curves else {})},
    }  # fmt: skip
    mark = fingerprint(asked)
    reader = AudioReader(audio["sample_rate"], audio["channels"])
    plan = [
        (split, shard, out / split / shard.path.name)
        for split in SPLITS
        for shard in open_shards(root, split)
    ]
    with claimed(out):
        settle(out, asked, overwrite)
        todo = [(old, new) for _, old, new in plan if not is_whole(new, mark)]
        total = sum(len(old.samples) for old, _ in todo)
        if todo:
            with Bar(f"encoding {root}", total, shown=progress, console=ERR) as bar:
                for old, new in todo:
                    with whole_shard(new, mark) as writer:
                        _encode_shard(old, writer, reader, encode, batch_size, bar, curves or {})
        shards = [(split, Shard(new)) for split, _, new in plan]
        latent = next((s.samples[0]["latent"] for _, s in shards if s.samples), None)
        if latent is None:
            raise UserError(f"nothing in {root} could be encoded: run `glissando prepare` again")
        facts = {"kind": "latent", "sample_rate": audio["sample_rate"], "hop": hop,
                 "channels": audio["channels"], "latent": latent,
                 "representation": representation, "audio": audio["fingerprint"]}  # fmt: skip
        finish(out, {**asked, **facts}, shards)
    done = read_dataset(out)
    if progress:
        refused = sum(len(shard.index["refused"]) for _, shard in shards)
        samples = sum(split["samples"] for split in done["splits"].values())
        note(f"{out}: {samples} latents of {latent[0]} x {latent[1]} at "
            f"{audio['sample_rate'] / hop:.1f} Hz, {refused or 'none'} refused")  # fmt: skip
    return done


def latent_sums(root: Path | str, progress: bool = True) -> tuple[Tensor, Tensor, int]:
    """Sums over all training latents: values and squares (C,) in float64, and how many of each.

    Counted once and kept beside the latents, in ``sums.json``. Raises UserError where ``root``
    holds no latents.
    """
    root = Path(root)
    facts = read_dataset(root)
    if facts["kind"] != "latent":
        raise UserError(f"{root} holds no latents")
    path = root / SUMS
    try:
        kept = json.loads(path.read_bytes())
    except (OSError, ValueError):
        kept = {}
    if kept.get("fingerprint") != facts["fingerprint"]:
        kept = {"fingerprint": facts["fingerprint"], **_counted(root, facts, progress)}
        write_json(path, kept)
    return torch.tensor(kept["values"]).double(), torch.tensor(kept["squares"]).double(), kept["n"]


def _counted(root: Path, facts: Mapping[str, Any], progress: bool) -> dict[str, Any]:
    values, squares = np.zeros((2, facts["latent"][0]))
    count = 0
    with Bar(f"statistics of {root}", facts["splits"]["train"]["samples"], shown=progress) as bar:
        for shard in open_shards(root, "train"):
            for sample in shard.samples:
                latent = array_of(shard.member(sample, "npy")).astype(np.float64)
                values += latent.sum((1, 2))
                squares += np.square(latent).sum((1, 2))
                count += latent[0].size
                bar.advance()
    return {"values": values.tolist(), "squares": squares.tolist(), "n": count}


def _encode_shard(
    shard: Shard, writer: ShardWriter, reader: AudioReader, encode: Encode, batch_size: int,
    bar: Bar, curves: Mapping[str, Curve],
) -> None:  # fmt: skip
    for group in _equal_lengths(shard.samples, batch_size):
        waves = []
        kept = []
        for sample in group:
            bar.advance()
            try:
                waves.append(reader.all_of(shard, sample))
                kept.append((sample, attributes_of(shard, sample)))
            except Lost:
                raise  # the server's fault and not the clip's: run again, it goes on
            except (Refused, ValueError, OSError, RuntimeError) as error:
                writer.refuse(sample["key"], f"unreadable: {error}")
        if not kept:
            continue
        with torch.no_grad():
            latents = encode(torch.from_numpy(np.stack(waves))).float().cpu().numpy()
        for (sample, attributes), latent, wave in zip(kept, latents, waves, strict=True):
            made = {name: curve(torch.from_numpy(wave), reader.sample_rate)
                    for name, curve in curves.items()}  # fmt: skip
            _write(writer, sample, attributes, latent, made)


def _write(
    writer: ShardWriter, sample: Mapping[str, Any], attributes: Mapping[str, Any],
    latent: np.ndarray, curves: Mapping[str, Tensor],
) -> None:  # fmt: skip
    """Add one latent (C, F, T); refused where float16 cannot hold it."""
    with np.errstate(over="ignore"):  # looked at below
        half = latent.astype(np.float16)
    if not np.isfinite(half).all():
        writer.refuse(sample["key"], "its latent is not finite in float16")
        return
    file = io.BytesIO()
    np.save(file, half)
    members = {"npy": file.getvalue()}
    if curves:
        members[CURVES] = _npz({name: curve.half().numpy() for name, curve in curves.items()})
    members["json"] = json_of(attributes)
    facts = {name: sample[name] for name in ("frames", "rate", "channels")}
    writer.add(sample["key"], members, **facts, latent=list(half.shape[:2]), steps=half.shape[2])


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    # Without allow_pickle=, which NumPy before 2.1 takes for one of the arrays.
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def _equal_lengths(
    samples: list[dict[str, Any]], batch_size: int
) -> Iterator[list[dict[str, Any]]]:
    """The samples in groups of one length and rate, in the order of their first."""
    groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for sample in samples:
        groups.setdefault((sample["frames"], sample["rate"]), []).append(sample)
    for group in groups.values():
        for first in range(0, len(group), batch_size):
            yield group[first : first + batch_size]
