"""Prepared audio, cached latents, and what a run wants to know of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from glissando.build.config import plain, whole_number
from glissando.checkpoints.instantiate import instantiate
from glissando.controls import Control
from glissando.datasets.alone import alone
from glissando.datasets.samples import all_attributes
from glissando.datasets.shards import Shard, fingerprint, open_shards, read_dataset
from glissando.errors import UserError
from glissando.networks.fold import fold
from glissando.progress import ERR, Bar
from glissando.representations.base import Representation
from glissando.training.data import Clips


def prepared(
    cfg: DictConfig, again: bool = False, overwrite: bool = False, latents: bool = False
) -> Path:
    """The prepared dataset that ``data=`` asks for, prepared now if it is not there yet.

    ``again`` looks at every shard, for what is damaged or new in the source; ``overwrite``
    replaces a dataset of other settings. UserError for ``latents`` where they are of no use.
    """
    from glissando.datasets.dataset_folder import is_prepared

    whole_number(cfg, "prepare.workers", 1)
    whole_number(cfg, "prepare.samples_per_shard", 1)
    source = instantiate(cfg.data)
    root = cfg.prepare.shards
    if root is None:
        mark = fingerprint({"source": source.name, "settings": dict(source.settings())})
        root = f"data/shards/{source.name}-{mark[:8]}"
    wanted = source.name, dict(source.settings()), source.access
    if again or overwrite or not is_prepared(root, *wanted):
        with _resumable(), alone(Path(root)):
            if again or overwrite or not is_prepared(root, *wanted):
                source.prepare(
                    root, cfg.prepare.workers, cfg.prepare.samples_per_shard, overwrite=overwrite
                )
    if not latents and read_dataset(root)["kind"] == "latent":
        raise UserError(f"data.root={cfg.data.root} holds latents where audio is needed")
    return Path(root)


@contextmanager
def _resumable() -> Iterator[None]:
    """Ctrl-C within says what it leaves."""
    try:
        yield
    except KeyboardInterrupt:
        left = "whole shards are kept, and the same command goes on with the rest"
        raise KeyboardInterrupt(left) from None


def encoded(
    root: Path, representation: Representation, controls: Mapping[str, Control] | None = None
) -> Path:
    """The latents of a prepared dataset under one representation, encoded now if missing.

    Beside them lies what ``controls`` compute of the audio, in a folder of its own for each choice.
    A dataset of latents is taken as it is; UserError where they are others than those.
    """
    from glissando.datasets.latents import encode_dataset

    facts = read_dataset(root)
    mark = representation.fingerprint()
    settings = {name: control.settings() for name, control in (controls or {}).items()}
    curves = fingerprint(settings)[:8] if settings else ""
    if facts["kind"] == "latent":
        _made_by(facts, mark, curves)
        return root
    out = Path("data/latents") / "-".join(filter(None, [root.name, mark, curves]))
    if _encoded_from(out, facts["fingerprint"]):
        return out
    with _resumable(), alone(out):
        if _encoded_from(out, facts["fingerprint"]):
            return out
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # A copy to encode with: what is trained on keeps the weights that checkpoints know.
        coder = fold(copy.deepcopy(representation).eval().to(device))

        @torch.no_grad()
        def encode(wave: Tensor) -> Tensor:
            return coder.encode(wave.to(device)).float().cpu()

        encode_dataset(
            root, out, encode, representation=mark, hop=representation.hop, overwrite=True,
            curves=controls, curves_mark=curves,
        )  # fmt: skip
    return out


def _made_by(facts: Mapping[str, Any], representation: str, curves: str) -> None:
    """Raises UserError for latents of another representation, or without the curves wanted."""
    if facts["representation"] != representation:
        raise UserError(
            f"the latents of data.root= are of the representation {facts['representation']} and "
            f"not of this one ({representation}): set representation= and "
            "representation.autoencoder= to what they were encoded with"
        )
    if curves and facts["curves"] != curves:
        raise UserError(
            f"the latents of data.root= have {'other' if facts['curves'] else 'no'} curves beside "
            "them: set conditioner= to what they were encoded with, or encode them again"
        )


def measure(representation: Representation, latents: Path) -> None:
    """The statistics of ``latents`` for a representation that training did not measure."""
    from glissando.datasets.latents import latent_sums

    if not representation.measured:
        representation.measure(*latent_sums(latents))


def _encoded_from(out: Path, audio: str) -> bool:
    """Are there whole latents at ``out``, of the audio dataset with this fingerprint?"""
    try:
        return read_dataset(out)["audio"] == audio
    except UserError:
        return False


def clips_of(cfg: DictConfig, valid_seconds: float | None = None) -> Clips:
    """The data module of ``loader=``, without its folder until that is there."""
    return Clips(
        "", seed=cfg.seed, valid_seconds=valid_seconds,
        **{str(key): value for key, value in plain(cfg.loader).items()},
    )  # fmt: skip


def clip_attributes(root: Path) -> Iterator[dict[str, Any]]:
    """The attributes of every clip of a prepared dataset, all splits."""
    facts = read_dataset(root)
    total = sum(split["samples"] for split in facts["splits"].values())
    with Bar(f"attributes of {root}", total, shown="access" in facts, console=ERR) as bar:
        for split in facts["splits"]:
            for shard in open_shards(root, split):
                for attributes in all_attributes(shard):
                    yield attributes
                    bar.advance()


def longest(root: Path) -> float:
    """Seconds of the longest clip of a prepared audio dataset."""
    return max(sample["frames"] / sample["rate"] for _, sample in _samples(root))


def ranges(attributes: list[dict[str, Any]]) -> dict[str, list[float]]:
    """The range of every attribute that is a number wherever it is given."""
    found: dict[str, list[float]] = {}
    for row in attributes:
        for name, value in row.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                low, high = found.get(name, [value, value])
                found[name] = [min(low, value), max(high, value)]
    return found


def _samples(root: Path) -> Iterator[tuple[Shard, dict[str, Any]]]:
    for split in read_dataset(root)["splits"]:
        for shard in open_shards(root, split):
            for sample in shard.samples:
                yield shard, sample
