"""``data.root=`` of shards, taken apart: which tars it means, on this machine and on servers."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glissando.datasets.base import SPLITS
from glissando.datasets.remote import Access, listed
from glissando.datasets.shards import DATASET, FORMAT
from glissando.datasets.stores import is_remote, read_whole
from glissando.errors import UserError

#: What ``dataset.json`` says of latents: how they were made, and of what.
CODED = ("sample_rate", "channels", "hop", "latent", "representation", "curves")
#: More tars than this in one pattern are a slip of the pen: {0..99999999}.
MOST = 100_000


@dataclass(frozen=True)
class Place:
    """One tar of source number ``source``; of a prepared dataset with its ``split`` and index.

    ``coded`` is of latents, what must be one for all that are read together (``CODED``).
    """

    tar: str
    source: int
    split: str | None = None
    index: str | None = None
    coded: Mapping[str, Any] = field(default_factory=dict)


def sources(root: str | Sequence[str]) -> list[str]:
    """The sources that ``data.root`` names: a list, or text with ``::`` between them."""
    names = root.split("::") if isinstance(root, str) else [str(name) for name in root]
    found = [name.strip() for name in names if name.strip()]
    if not found:
        raise UserError("data.root= names no shards")
    return [
        name if is_remote(name) else str(Path(name.removeprefix("file://")).expanduser().absolute())
        for name in found
    ]


def places(source: str, number: int, access: Access) -> list[Place]:
    """The tars of one source, in a fixed order.

    A source is the folder of a prepared dataset or of its cached latents, a folder of tars, or a
    path of tars with braces (``{000..099}``, ``{a,b}``) or ``*``; each may be a URL. Raises
    UserError, naming it, where there are none.
    """
    found = [place for name in _expanded(source) for place in _at(name, number, access)]
    if not found:
        raise UserError(f"data.root={source}: no tars there, e.g. folder/{{000..099}}.tar")
    return found


def _expanded(source: str) -> Iterator[str]:
    from braceexpand import braceexpand

    try:
        for count, name in enumerate(braceexpand(source)):
            if count == MOST:
                raise UserError(f"data.root={source} has more than {MOST} tars")
            yield name
    except ValueError:
        raise UserError(f"data.root={source}: its braces do not match") from None


def _at(name: str, number: int, access: Access) -> Iterator[Place]:
    if name.endswith(".tar") or "*" in name:
        yield from (Place(tar, number) for tar in _matching(name, access))
        return
    name = name.rstrip("/")
    facts = _facts(name, access)
    if facts is None:
        pattern = f"{name}/**/*.tar"
        yield from (Place(tar, number) for tar in _matching(pattern, access))
        return
    coded = {name: facts[name] for name in CODED} if facts["kind"] == "latent" else {}
    for split in SPLITS:
        for shard in range(int(facts["splits"].get(split, {}).get("shards", 0))):
            stem = f"{name}/{split}/{shard:06d}"
            yield Place(f"{stem}.tar", number, split, f"{stem}.index.json", coded)


def _matching(name: str, access: Access) -> list[str]:
    if "*" not in name:
        return [name]
    if is_remote(name):
        return sorted(listed(name, access))
    return sorted(glob.glob(name, recursive=True))  # noqa: PTH207  # the pattern is absolute


def _facts(folder: str, access: Access) -> dict[str, Any] | None:
    """The ``dataset.json`` of a folder; None where there is none."""
    try:
        facts = json.loads(read_whole(f"{folder}/{DATASET}", access))
        kind, form = facts["kind"], facts["format"]
        counts = {split: int(facts["splits"][split]["shards"]) for split in facts["splits"]}
        if kind == "latent":
            facts["curves"] = facts["settings"].get("curves", "")
            known = all(facts[name] is not None for name in CODED)
        else:
            known = kind == "audio"
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{folder}/{DATASET} is not readable ({error}); see data.root=") from None
    if not known or form != FORMAT or sum(counts.values()) > MOST:
        raise UserError(
            f"data.root={folder} holds {kind}s of format {form}, not audio or latents of {FORMAT}"
        )
    return facts
