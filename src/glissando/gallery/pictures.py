"""Pictures of sound: mel spectrogram and waveform, alone or as a before/after pair.

Drawn with matplotlib's Agg canvas and no pyplot, hence without global state: safe in a training
loop, in threads and without a display.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MultipleLocator
from torch import Tensor

from glissando.audio import as_channels
from glissando.files import write_whole
from glissando.gallery.spectrum import SILENCE_DB, envelope, frequency_ticks, mel_decibels
from glissando.progress import clock

Wave = Tensor | np.ndarray
"""Samples (C, L) or (L,), in [-1, 1]."""

_RANGE_DB = 75.0  # what is further below the loudest point is drawn black
_QUIET_DB = -40.0  # a clip whose loudest point is below this is drawn as quiet as it is
_BACK, _INK, _FAINT, _WAVE = "#14161c", "#d7dae0", "#3a3f4b", "#7aa2f7"
_CHANGE = LinearSegmentedColormap.from_list(
    "change", ["#7dcfff", "#3d59a1", _BACK, "#b4412f", "#ffc777"]
)
_TITLE = 110  # characters
_STEPS = (15, 30, 60, 120, 300, 600, 1800)  # seconds between two marks of a long time axis


def mel_spectrogram_png(wave: Wave, sample_rate: int, path: Path, title: str = "") -> None:
    """Write the picture of one clip (any length, also empty or silent) to `path`, whole."""
    _write(_one(wave, sample_rate, title), path)


def figure(wave: Wave, sample_rate: int, title: str = "") -> np.ndarray:
    """The same picture as (height, width, 3) uint8, for W&B or TensorBoard."""
    return _pixels(_one(wave, sample_rate, title))


def pair_png(
    original: Wave, reconstruction: Wave, sample_rate: int, path: Path, title: str = ""
) -> None:
    """Write original, reconstruction and their difference in dB, one above the other, to `path`."""
    _write(_pair(original, reconstruction, sample_rate, title), path)


def pair_figure(
    original: Wave, reconstruction: Wave, sample_rate: int, title: str = ""
) -> np.ndarray:
    """The same picture as (height, width, 3) uint8."""
    return _pixels(_pair(original, reconstruction, sample_rate, title))


def _one(wave: Wave, sample_rate: int, title: str) -> Figure:
    seconds = _seconds(wave, sample_rate)
    decibels = mel_decibels(wave, sample_rate)
    picture, panels, bars = _panels(3.6, [5, 1], title)
    image = _spectrogram(panels[0], decibels, sample_rate, seconds, _top(decibels))
    _bar(picture, image, bars[0])
    bars[1].remove()
    _waveform(panels[1], wave, seconds)
    _time_axis(panels[1], seconds)
    return picture


def _pair(original: Wave, reconstruction: Wave, sample_rate: int, title: str) -> Figure:
    length = min(as_channels(wave).shape[-1] for wave in (original, reconstruction))
    before, after = (as_channels(wave)[:, :length] for wave in (original, reconstruction))
    decibels = [mel_decibels(wave, sample_rate) for wave in (before, after)]
    top = _top(decibels[0])
    # Below the drawn range both are black: a difference there is nothing that anyone hears.
    audible = [np.maximum(values, top - _RANGE_DB) for values in decibels]
    seconds = _seconds(before, sample_rate)
    picture, panels, bars = _panels(6.4, [1, 1, 1], title)
    images = [
        _spectrogram(panels[0], decibels[0], sample_rate, seconds, top),
        _spectrogram(panels[1], decibels[1], sample_rate, seconds, top),
        _spectrogram(panels[2], audible[1] - audible[0], sample_rate, seconds, 20, -20, _CHANGE),
    ]
    names = ("original", "reconstruction", "reconstruction - original")
    for panel, bar, image, name in zip(panels, bars, images, names, strict=True):
        panel.set_title(name, color=_INK, fontsize=9, loc="left")
        _bar(picture, image, bar)
    _time_axis(panels[2], seconds)
    return picture


def _panels(height: float, shares: list[int], title: str) -> tuple[Figure, list[Axes], list[Axes]]:
    """A figure of `height` inches: panels one above the other, a narrow one right of each."""
    picture = Figure(figsize=(9, height), dpi=110, facecolor=_BACK)
    FigureCanvasAgg(picture)
    grid = picture.add_gridspec(
        len(shares),
        2,
        height_ratios=shares,
        width_ratios=[90, 1],
        left=0.065,
        right=0.955,
        top=1 - 0.5 / height,
        bottom=0.45 / height,
        wspace=0.025,
        hspace=0.15 * len(shares) / 3 if len(shares) > 2 else 0.1,
    )
    axes = grid.subplots(squeeze=False)
    for panel in axes.flat:
        panel.set_facecolor(_BACK)
        panel.tick_params(colors=_INK, labelsize=8)
        for side in panel.spines.values():
            side.set_color(_FAINT)
    for panel in axes[:-1, 0]:
        panel.tick_params(labelbottom=False)
    # A caption may be long, of several lines or hold a $: one line, no mathematics.
    line = " ".join(title.split())
    short = line if len(line) <= _TITLE else line[: _TITLE - 1] + "…"
    picture.suptitle(short, color=_INK, fontsize=10, y=1 - 0.08 / height, va="top").set_parse_math(
        False
    )
    return picture, list(axes[:, 0]), list(axes[:, 1])


def _top(decibels: np.ndarray) -> float:
    return max(float(decibels.max()), _QUIET_DB)


def _spectrogram(
    panel: Axes,
    decibels: np.ndarray,
    sample_rate: int,
    seconds: float,
    top: float,
    low: float | None = None,
    colors: str | Colormap = "magma",
) -> AxesImage:
    image = panel.imshow(
        decibels,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, 1),
        cmap=colors,
        vmin=max(top - _RANGE_DB, SILENCE_DB) if low is None else low,
        vmax=top,
        interpolation="nearest",
    )
    panel.set_yticks(*frequency_ticks(sample_rate, gap=0.07))
    return image


def _waveform(panel: Axes, wave: Wave, seconds: float) -> None:
    low, high = envelope(wave)
    panel.fill_between(np.linspace(0, seconds, len(low)), low, high, color=_WAVE, linewidth=0.6)
    loudest = max(1.0, -float(low.min()), float(high.max()))
    panel.set_ylim(-loudest, loudest)
    panel.set_yticks([-1, 0, 1])
    panel.set_xlim(0, seconds)


def _time_axis(panel: Axes, seconds: float) -> None:
    panel.set_xlabel("s", color=_INK, fontsize=8)
    if seconds > 100:
        step = next((step for step in _STEPS if seconds / step <= 10), 3600)
        panel.xaxis.set_major_locator(MultipleLocator(step))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda at, _: clock(at)))
        panel.set_xlabel("min", color=_INK, fontsize=8)


def _bar(picture: Figure, image: AxesImage, place: Axes) -> None:
    picture.colorbar(image, cax=place)
    place.tick_params(colors=_INK, labelsize=8)
    place.set_title("dB", color=_INK, fontsize=8)


def _seconds(wave: Wave, sample_rate: int) -> float:
    return max(as_channels(wave).shape[-1], 1) / sample_rate


def _pixels(picture: Figure) -> np.ndarray:
    canvas = picture.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    with _any_glyph():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _write(picture: Figure, path: Path) -> None:
    data = BytesIO()
    with _any_glyph():
        # No version in the file: the same clip gives the same bytes.
        picture.savefig(data, format="png", metadata={"Software": None})
    write_whole(Path(path), data.getvalue())


@contextmanager
def _any_glyph() -> Iterator[None]:
    """A title in a script that the font lacks is drawn as boxes; no need to say so each time."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield
