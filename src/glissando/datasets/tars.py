"""Shards that are there already, on this machine or on servers, and stay where they are.

What is prepared of them is a dataset folder without tars: an index of each, which says where the
tar is. So the order of an epoch is known before a byte is fetched, whatever is cached.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from glissando.datasets.base import SPLITS, Preparable
from glissando.datasets.dataset_folder import claimed, finish, settle
from glissando.datasets.foreign import index_of
from glissando.datasets.places import Place, places, sources
from glissando.datasets.processes import mapped
from glissando.datasets.remote import Access, Lost
from glissando.datasets.report import Report, reported
from glissando.datasets.shards import FORMAT, Shard, fingerprint, index_path, write_json
from glissando.datasets.splits import dealt, shares
from glissando.datasets.stores import read_whole, version
from glissando.errors import UserError
from glissando.progress import ERR, Bar, note

INDEXES = "tars"
"""The folder of what was read of each tar: an interrupted preparation goes on from there."""


class Tars(Preparable):
    """A source of shards, prepared ones or plain WebDataset tars, local or remote.

    Prepared datasets keep their splits; the samples of plain tars are dealt to splits by a hash
    of their ``group`` (in their json) or key.

    Args:
        root: sources with ``::`` between them, or a list: each the folder of a prepared dataset
            or of its cached latents, a folder of tars or a path of tars with braces or ``*``, and
            each may be a URL (http, https, s3, gs).
        weights: how often the samples of each source come in an epoch (None: once each).
        sample_rate, channels: of the crops; what is stored otherwise is resampled and mixed as
            it is read. Latents must be of such audio.
        caption: a template over the fields of a sample, e.g. "{title}, {genre}"; None takes its
            caption.
        splits, seed: shares of the samples of plain tars, and another seed for another deal.
        cache: a folder in which remote tars are kept whole when first read; None reads ranges.
        retries, timeout: how often a server is asked again, and the seconds it has to answer.
    """

    name = "shards"

    def __init__(
        self,
        root: str | Sequence[str],
        sample_rate: int = 22050,
        channels: int = 1,
        weights: Sequence[float] | None = None,
        caption: str | None = None,
        splits: Mapping[str, float] | None = None,
        seed: int = 0,
        cache: str | None = None,
        retries: int = 6,
        timeout: float = 30.0,
    ) -> None:
        self.sources = sources(root)
        self.weights = [1.0] * len(self.sources) if weights is None else list(weights)
        if len(self.weights) != len(self.sources) or not all(w > 0 for w in self.weights):
            raise UserError(
                f"data.weights={weights} must have one number above 0 for each of the "
                f"{len(self.sources)} sources of data.root"
            )
        for name, number in (("sample_rate", sample_rate), ("channels", channels)):
            if number < 1:
                raise UserError(f"data.{name} must be at least 1, not {number}")
        self.splits = shares(splits)
        self.sample_rate, self.channels, self.caption = sample_rate, channels, caption
        self.seed = seed
        folder = None if cache is None else str(Path(cache).expanduser().absolute())
        self.reach = Access(retries, timeout, folder)

    def settings(self) -> dict[str, Any]:
        """Every argument that changes the clips."""
        names = ("sample_rate", "channels", "weights", "caption", "splits", "seed")
        return {"root": self.sources, **{name: getattr(self, name) for name in names}}

    @property
    def access(self) -> dict[str, Any]:
        """How the tars are reached, which changes no clip."""
        return self.reach.plain()

    def prepare(
        self, root: Path | str, workers: int = 1, samples_per_shard: int = 100,
        progress: bool = True, overwrite: bool = False,
    ) -> Report:  # fmt: skip
        """Read the index of every tar and write the dataset folder ``root`` that refers to them.

        What was read of a tar that has not changed since is kept, so an interrupted run goes on.
        Raises UserError when ``root`` holds another dataset (unless ``overwrite``) and when no
        sample can be used, Lost when a server does not answer.
        """
        root = Path(root)
        settings = json.loads(json.dumps(self.settings()))
        asked = {"source": self.name, "settings": settings, "samples_per_shard": None}
        with claimed(root):
            settle(root, asked, overwrite)
            found = [
                place
                for number, source in enumerate(self.sources)
                for place in places(source, number, self.reach)
            ]
            indexes = self._indexes(found, root / INDEXES, workers, progress)
            shards = self._written(root, indexes)
            bad = [(index["tar"], index["error"]) for _, index in indexes if "error" in index]
            report = reported(root, [shard for _, shard in shards], bad)
            facts = {**self._kind(found), "weights": self.weights, "caption": self.caption}
            finish(root, {**asked, **facts}, shards, self.access)
        if progress:
            note(str(report))
        return report

    def _kind(self, found: list[Place]) -> dict[str, Any]:
        """What the sources hold, audio or latents of one kind. Raises UserError for a mixture."""
        form = {"sample_rate": self.sample_rate, "channels": self.channels}
        coded = found[0].coded
        for place in found:
            if place.coded != coded:
                one, other = (self.sources[number] for number in (found[0].source, place.source))
                raise UserError(
                    f"data.root= mixes what cannot be read together: {one} and {other} are "
                    "latents of different representations, or one of them is audio"
                )
        if not coded:
            return {"kind": "audio", **form}
        for name, number in form.items():
            if coded[name] != number:
                raise UserError(
                    f"the latents of data.root= were made of audio with {name} {coded[name]}: set "
                    f"data.{name}={coded[name]}"
                )
        return {"kind": "latent", **coded}

    def _indexes(
        self, found: list[Place], kept: Path, workers: int, shown: bool
    ) -> list[tuple[Place, dict[str, Any]]]:
        read = partial(_read, self.reach, kept)
        indexes = []
        with (
            mapped(read, found, workers) as made,
            Bar("looking over tars", len(found), shown=shown, console=ERR) as bar,
        ):
            for place, index in zip(found, made, strict=True):
                indexes.append((place, index))
                bar.advance()
        return indexes

    def _written(
        self, root: Path, indexes: list[tuple[Place, dict[str, Any]]]
    ) -> list[tuple[str, Shard]]:
        """One index a tar and split, of the samples that fell to the split."""
        groups = {
            _group(place, sample)
            for place, index in indexes
            if place.split is None
            for sample in index.get("samples", ())
        }
        split_of = dealt(groups, self.splits, self.seed) if groups else {}
        shards: list[tuple[str, Shard]] = []
        numbers: Counter[str] = Counter()
        for place, index in indexes:
            refused = index.get("refused", [])
            for split in SPLITS:
                samples = [
                    sample
                    for sample in index.get("samples", ())
                    if split == (place.split or split_of[_group(place, sample)])
                ]
                if not samples:
                    continue
                shard = Shard(root / split / f"{numbers[split]:06d}.tar", self.reach, self.caption)
                about = {"format": FORMAT, "bytes": index["bytes"], "tar": place.tar,
                         "source": place.source, "refused": refused,
                         "samples": samples}  # fmt: skip
                write_json(index_path(shard.path), {**about, "fingerprint": fingerprint(about)})
                shards.append((split, shard))
                numbers[split] += 1
                refused = []  # told once
        return shards


def _group(place: Place, sample: Mapping[str, Any]) -> str:
    return sample.get("group") or f"{place.source}/{sample['key']}"


def _read(access: Access, kept: Path, place: Place) -> dict[str, Any]:
    """The index of a tar, from ``kept`` if it has not changed; ``error`` for one of no use."""
    path = kept / f"{fingerprint({'tar': place.tar, 'index': place.index})}.json"
    try:
        mark = version(place.index or place.tar, access)
    except FileNotFoundError:
        return {"tar": place.tar, "error": "no such file"}
    try:
        there = json.loads(path.read_bytes())
        if there["version"] == mark:
            return there
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or of no use
    try:
        if place.index is None:
            index = index_of(place.tar, access)
        else:
            index = {**_checked(json.loads(read_whole(place.index, access))), "tar": place.tar}
    except Lost:
        raise
    except UserError as error:
        index = {"tar": place.tar, "error": str(error)}
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        index = {"tar": place.tar, "error": f"its index is unreadable ({error})"}
    write_json(path, {**index, "version": mark})
    return index


def _checked(index: dict[str, Any]) -> dict[str, Any]:
    """An index that came from elsewhere, if all in it is of the kind that readers rely on."""
    if index["format"] != FORMAT:
        raise ValueError(f"format {index['format']} and not {FORMAT}")
    numbers = [index["bytes"]]
    texts = [text for pair in index["refused"] for text in pair]
    for sample in index["samples"]:
        texts += [sample["key"], *sample["members"]]
        numbers += [sample["frames"], sample["rate"], sample["channels"]]
        for offset, size in sample["members"].values():
            numbers += [offset, size]
    if not all(type(n) is int and n >= 0 for n in numbers) or not all(
        isinstance(text, str) for text in texts
    ):
        raise ValueError("something in it is of a wrong type")
    return {name: index[name] for name in ("format", "bytes", "refused", "samples")}
