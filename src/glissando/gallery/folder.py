"""Put clips into a folder: ``000.wav``, ``000.png``, ``000.json`` and the page that plays them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from glissando.audio import peak_limited, write_wav
from glissando.files import write_whole
from glissando.gallery.page import write_page
from glissando.gallery.pictures import mel_spectrogram_png, pair_png

_NUMBERED = re.compile(r"(\d{3,})\.(?:wav|png|json)")


class Clip(Protocol):
    """What a generated clip has; `facts` is all that is needed to make it again."""

    @property
    def wave(self) -> Tensor | np.ndarray: ...  # (C, L) in [-1, 1]

    @property
    def sample_rate(self) -> int: ...

    @property
    def prompt(self) -> str: ...

    @property
    def facts(self) -> Mapping[str, object]: ...


def write(
    folder: Path,
    clips: Sequence[Clip],
    title: str | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[Path]:
    """Write `clips` to `folder` and return their WAV files, in order.

    Numbers continue after the highest that is there, so nothing is lost. Each file appears whole;
    the WAV last, so that a clip with sound has everything. The json is the clip's prompt and facts,
    ``sample_rate``, and ``gain`` if the clip had to be scaled down to a peak of 1. `title` heads
    the page (default: the folder's name); `progress` is called with the number of clips written.
    Raises UserError for audio that is not finite, OSError if the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    first = next_number(folder)
    written = []
    try:
        for number, clip in enumerate(clips, start=first):
            written.append(write_clip(folder / f"{number:03}", clip))
            if progress is not None:
                progress(len(written))
    finally:  # after Ctrl-C too, the page shows what is there
        write_page(folder, title)
    return written


def next_number(folder: Path) -> int:
    """One more than the highest number among the clips' files in `folder`; 0 if there is none."""
    matches = (_NUMBERED.fullmatch(path.name) for path in folder.iterdir())
    return max((int(match[1]) + 1 for match in matches if match), default=0)


def write_clip(stem: Path, clip: Clip, original: Tensor | np.ndarray | None = None) -> Path:
    """The wav, png and json of one clip under `stem`, whole; returns the wav's path.

    With an `original` (C, L) the picture shows both and their difference. Errors as `write`.
    """
    wave, gain = peak_limited(clip.wave)
    audio = stem.with_suffix(".wav")
    facts = {"prompt": clip.prompt, **clip.facts, "sample_rate": clip.sample_rate}
    if gain != 1:
        facts["gain"] = gain
    picture = stem.with_suffix(".png")
    if original is None:
        mel_spectrogram_png(wave, clip.sample_rate, picture, clip.prompt)
    else:
        pair_png(original, wave, clip.sample_rate, picture, clip.prompt)
    text = json.dumps(facts, indent=2, ensure_ascii=False, default=_plain)
    write_whole(stem.with_suffix(".json"), (text + "\n").encode())
    write_wav(audio, wave, clip.sample_rate)
    return audio


def _plain(value: object) -> object:
    """JSON for what a config or an array brings along: paths as text, numpy numbers as numbers."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written to JSON: make it plain first")
