"""``index.html``: every clip of a folder on one page that needs nothing but its folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import NamedTuple
from urllib.parse import quote

import soundfile

from glissando.files import write_whole
from glissando.progress import clock

_SHORT = 60  # a fact longer than this is in the details only


class Card(NamedTuple):
    """A clip as the page shows it; `picture` is None where there is none."""

    audio: Path
    picture: Path | None
    seconds: float
    facts: Mapping[str, object]


def write_page(folder: Path, title: str | None = None) -> Path:
    """(Re)write ``index.html`` of `folder` from the clips that are in it, and return its path."""
    page = folder / "index.html"
    text = render(list(cards(folder)), title or folder.resolve().name)
    write_whole(page, text.encode())
    return page


def cards(folder: Path) -> Iterator[Card]:
    """A card for each readable WAV in `folder`, by name; facts from the ``.json`` beside it."""
    for audio in sorted(folder.glob("*.wav")):
        try:
            seconds = soundfile.info(audio).duration
        except soundfile.SoundFileError:
            continue
        picture = audio.with_suffix(".png")
        facts = _facts(audio.with_suffix(".json"))
        yield Card(audio, picture if picture.is_file() else None, seconds, facts)


def _facts(path: Path) -> Mapping[str, object]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def render(clips: list[Card], title: str) -> str:
    """The page as HTML. Links are file names, so the folder can be moved or served as it is."""
    total = sum(clip.seconds for clip in clips)
    noun = "clip" if len(clips) == 1 else "clips"
    template = files("glissando.gallery").joinpath("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=escape(title),
        summary=escape(f"{len(clips)} {noun}, {clock(total)} of audio"),
        cards="\n".join(_card(clip) for clip in clips),
    )


def _card(clip: Card) -> str:
    prompt = str(clip.facts.get("prompt") or "")
    heading = f"<h2>{escape(prompt)}</h2>" if prompt else '<h2 class="none">no prompt</h2>'
    name = prompt or clip.audio.stem
    source = quote(clip.audio.name)
    picture = ""
    if clip.picture is not None:
        alt = escape(f"Mel spectrogram and waveform: {name}")
        picture = f'<img loading="lazy" src="{quote(clip.picture.name)}" alt="{alt}">\n'
    return (
        f'<article>\n<div class="head"><span class="number">{escape(clip.audio.stem)}</span>'
        f"{heading}</div>\n{picture}"
        f'<audio controls preload="none" src="{source}" aria-label="{escape(name)}"></audio>\n'
        f"<dl>{_chips(clip)}</dl>\n{_details(clip)}</article>"
    )


def _chips(clip: Card) -> str:
    shown = {"seconds": f"{clip.seconds:.2f}"}
    for key, value in clip.facts.items():
        simple = isinstance(value, str | int | float) and not isinstance(value, bool)
        if simple and key not in ("prompt", "seconds") and len(str(value)) <= _SHORT:
            shown[key] = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(
        f"<div><dt>{escape(key.replace('_', ' '))}</dt><dd>{escape(value)}</dd></div>"
        for key, value in shown.items()
        if value
    )


def _details(clip: Card) -> str:
    if not clip.facts:
        return ""
    everything = escape(json.dumps(clip.facts, indent=2, ensure_ascii=False))
    summary = "<summary>all settings</summary>"
    return f"<details>{summary}<pre>{everything}</pre></details>\n"
