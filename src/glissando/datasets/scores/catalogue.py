"""Which tunes there are: titles, kinds and groups, read from the headers without parsing notes.

The scores ship with music21: Bach's four-part chorales, and three collections of tunes in ABC
notation (Ryan's Mammoth Collection, 1883; O'Neill's Music of Ireland, 1903; Aird's Airs,
1782-1801). Palestrina ("rights reserved") and the Essen collection (non-commercial) are left out.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import zipfile
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from glissando.datasets.scores.meter import DANCES
from glissando.errors import UserError

INSTALL = (
    "pip install music21==10.5.1 pretty_midi==0.2.11.post0 && "
    "pip install --no-deps tinysoundfont==0.3.7"
)
ABC_COLLECTIONS = ("ryansMammoth", "oneills1850", "airdsAirs")
COLLECTIONS = ("bach", *ABC_COLLECTIONS)

# The sections of O'Neill's Music of Ireland by tune number, as in its table of contents. Where the
# transcriber gave a rhythm (R:), it agrees with the section in all of 876 jigs, slip jigs, reels
# and hornpipes. The O'Carolan pieces, long dances and marches are no single kind: left out.
ONEILL_SECTIONS = (
    (1, 625, "air"),
    (701, 1115, "jig"),
    (1116, 1175, "slip jig"),
    (1176, 1555, "reel"),
    (1556, 1780, "hornpipe"),
)
# Steps in a row that make two tunes settings of one. With 16 the largest group that chains of
# shared phrases make has 26 tunes; with 14 it would have 338, joined by stock phrases.
TUNE_PHRASE, CHORALE_PHRASE = 16, 12
METER_SIGNS = {"C": "4/4", "C|": "2/2"}
KIND_SPELLINGS = {
    "double jig": "jig",
    "slipjig": "slip jig",
    "highland fling": "fling",
    "quick step": "march",
    "quickstep": "march",
}
_TITLE_KIND = re.compile(
    r"\b(slip jig|jig|reel|strathspey|hornpipe|march|minuet|gavotte|waltz|quick ?step)\b\.?$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Entry:
    """One tune of the catalogue.

    ``id`` is "collection/file" for chorales, "collection/file.index" for ABC. ``kind`` is one of
    ``meter.DANCES`` or "tune" where no kind is known. ``group`` names the melody: settings of one
    tune, within and across collections, share it.
    """

    id: str
    collection: str
    title: str
    kind: str
    group: str

    @property
    def path(self) -> Path:
        return corpus() / self.collection / self.id.split("/")[1]


def package_folder(name: str) -> Path:
    """Where an installed package lies, without importing it; raises UserError if it is missing."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"data=scores needs the package {name}: {INSTALL}")
    return Path(next(iter(spec.submodule_search_locations)))


def require(*packages: str) -> None:
    """Raise UserError with the command that installs them if one of the packages is missing."""
    for name in packages:
        package_folder(name)


def corpus() -> Path:
    """The folder of scores inside music21."""
    return package_folder("music21") / "corpus"


@lru_cache(maxsize=64)
def abc_tunes(collection: str, file: str) -> tuple[str, ...]:
    """The tunes of one ABC file, each from its ``X:`` header on."""
    text = (corpus() / collection / file).read_text(encoding="utf-8", errors="replace")
    return tuple(re.split(r"(?m)^(?=X:)", text)[1:])


def abc_text(tune_id: str) -> str:
    """The ABC text of a tune, given its id."""
    collection, name = tune_id.split("/")
    file, index = name.rsplit(".", 1)
    return abc_tunes(collection, file)[int(index)]


def abc_meters(text: str) -> list[str]:
    """The meters that a tune names, "6/8" and the like, in its header and further on."""
    found: list[str] = re.findall(r"(?m)(?:^|\[)M:[ \t]*([^]%\s]+)", text)
    return [METER_SIGNS.get(meter, meter) for meter in found]


@lru_cache(maxsize=1)
def catalogue() -> tuple[Entry, ...]:
    """Every tune, in a fixed order (about 2 s)."""
    entries, keys = [], []
    for path in sorted((corpus() / "bach").glob("*.mxl")):
        melody = _chorale_melody(path)
        if melody:
            title = re.sub(r"^bwv", "BWV ", path.stem)
            entries.append((f"bach/{path.name}", "bach", title, "chorale"))
            keys.append(_phrases(melody, CHORALE_PHRASE))
    for collection in ABC_COLLECTIONS:
        for path in sorted((corpus() / collection).glob("*.abc")):
            for index, text in enumerate(abc_tunes(collection, path.name)):
                title, kind = _header(text, "T"), _kind(collection, text)
                entries.append((f"{collection}/{path.name}.{index}", collection, title, kind))
                keys.append({*_title_key(title), *_phrases(_abc_melody(text), TUNE_PHRASE)})
    groups = _groups([entry[0] for entry in entries], keys)
    return tuple(Entry(*e, group=g) for e, g in zip(entries, groups, strict=True))


def _header(text: str, field: str) -> str:
    found = re.search(rf"(?m)^{field}:[ \t]*(.*)$", text)
    return found[1].strip().rstrip(".").strip() if found else ""


def _kind(collection: str, text: str) -> str:
    rhythm = _header(text, "R").lower()
    number = re.match(r"X:\s*(\d+)", text)
    titled = _TITLE_KIND.search(_header(text, "T"))
    if rhythm:
        kind = rhythm
    elif collection == "oneills1850" and number:
        x = int(number[1])
        kind = next((k for low, high, k in ONEILL_SECTIONS if low <= x <= high), "")
    else:
        kind = titled[1].lower() if titled else ""
    kind = KIND_SPELLINGS.get(kind, kind)
    meters = set(abc_meters(text))
    # A kind that its meter contradicts (a "reel" in 6/8) is not known well enough to be claimed.
    return kind if kind in DANCES and meters <= set(DANCES[kind].meters) else "tune"


def _title_key(title: str) -> list[Hashable]:
    """The title's words in any order; [] for one word ("Air"): it names many different tunes."""
    words = re.sub(r"\(.*?\)|--.*|[^a-z0-9 ]", "", title.lower().replace("-", " "))
    found = sorted(set(words.split()) - {"the", "a", "an", "of", "or"})
    return [" ".join(found)] if len(found) > 1 else []


def _abc_melody(text: str) -> list[int]:
    """Diatonic pitches in the order they are written, ornaments left out."""
    body = re.split(r"(?m)^K:.*$", text, maxsplit=1)[-1]
    body = re.sub(r'(?m)^[A-Za-z]:.*$|%.*$|"[^"]*"|\{[^}]*\}|![^!]*!|\[[A-Za-z]:[^]]*\]', "", body)
    return [
        "CDEFGABcdefgab".index(letter) + 7 * marks.count("'") - 7 * marks.count(",")
        for letter, marks in re.findall("([A-Ga-g])([,']*)", body)
    ]


def _phrases(pitches: list[int], count: int) -> set[Hashable]:
    """All runs of ``count`` steps, whatever the key; those that are mere scales or trills not."""
    steps = [b - a for a, b in pairwise(pitches)]
    runs = zip(*(steps[i:] for i in range(count)), strict=False)
    return {run for run in runs if len(set(run)) > 3}


def _chorale_melody(path: Path) -> list[int]:
    """The soprano's diatonic pitches; [] for what is no chorale for four voices."""
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if n.endswith("xml") and "META-INF" not in n]
        xml = archive.read(names[0]).decode("utf-8", "replace")
    voices = re.findall(r"<part-name>\s*(Soprano|Alto|Tenor|Bass)\b", xml)
    if set(voices) != {"Soprano", "Alto", "Tenor", "Bass"} or len(voices) > 4:
        return []
    soprano = re.search(r'<score-part id="([^"]+)">\s*<part-name>\s*Soprano', xml)
    part = re.search(rf'<part id="{soprano[1]}">.*?</part>', xml, re.S) if soprano else None
    found = re.findall(r"<step>(.)</step>.*?<octave>(\d)</octave>", part[0], re.S) if part else []
    return ["CDEFGAB".index(step) + 7 * int(octave) for step, octave in found]


def _groups(ids: list[str], keys: list[set[Hashable]]) -> list[str]:
    """One name per tune, shared by all that a chain of equal keys connects (union-find)."""
    parent = list(range(len(ids)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[Hashable, int] = {}
    for i, own in enumerate(keys):
        for key in own:
            one, other = sorted((root(i), root(first.setdefault(key, i))))
            parent[other] = one
    return [hashlib.sha256(ids[root(i)].encode()).hexdigest()[:12] for i in range(len(ids))]
