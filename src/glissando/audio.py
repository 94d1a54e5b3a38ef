"""Reading any audio file, and writing WAV files whose bytes depend on the samples alone."""

from __future__ import annotations

from io import BytesIO
from os import PathLike
from pathlib import Path

import numpy as np
import soundfile
import soxr
from torch import Tensor

from glissando.errors import UserError
from glissando.files import write_whole

_STEP = 32768  # 16-bit steps in 1.0


def read_audio(
    path: str | PathLike[str],
    sample_rate: int | None = None,
    channels: int | None = None,
    start: float = 0.0,
    seconds: float | None = None,
) -> tuple[np.ndarray, int]:
    """Read a file, or `seconds` of it from `start` -> (wave (C, L) float32 in [-1, 1], rate in Hz).

    Whatever libsndfile reads (WAV, FLAC, Ogg, Opus, MP3). Only the wanted part is decoded. It is
    resampled to `sample_rate` and mixed down or repeated to `channels` where these are given (any
    number to 1, 1 to any number). The part ends early where the file does. Raises UserError, naming
    the file, if it is missing, unreadable, empty, shorter than `start`, not finite, or of channels
    that cannot be converted.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such audio file")
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            first = round(start * rate)
            if file.frames <= first:
                length = file.frames / rate
                raise UserError(f"{path}: no sound at {start:g} s, it is {length:.2f} s long")
            file.seek(first)
            frames = -1 if seconds is None else round(seconds * rate)
            wave = file.read(frames, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise UserError(f"{path}: cannot be read as audio ({_reason(error)})") from error
    if not np.isfinite(wave).all():
        raise UserError(f"{path}: has samples that are not finite numbers")
    wave = _with_channels(wave, channels, path)
    if sample_rate is not None and sample_rate != rate:
        wave = soxr.resample(wave, rate, sample_rate)
        rate = sample_rate
    return np.ascontiguousarray(wave.T), rate


def _with_channels(wave: np.ndarray, channels: int | None, path: Path) -> np.ndarray:
    """Frames (L, C) as (L, channels)."""
    has = wave.shape[1]
    if channels is None or channels == has:
        return wave
    if channels == 1:
        return wave.mean(axis=1, keepdims=True)
    if has == 1:
        return wave.repeat(channels, axis=1)
    raise UserError(
        f"{path}: has {has} channels, which cannot be made {channels}: convert it first"
    )


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or str(error)
    return " ".join(text.split()).rstrip(".")


def write_wav(path: str | PathLike[str], wave: Tensor | np.ndarray, sample_rate: int) -> float:
    """Write (C, L) or (L,) samples as 16-bit WAV and return the gain that was applied to them.

    The gain is 1 unless the peak exceeds 1 (see `peak_limited`). Samples are rounded to the nearest
    step without dither, so the same samples give the same bytes, and what `read_audio` read from a
    16-bit file is written back bit for bit. Whole or not at all. Raises UserError if the samples
    are not finite, OSError if it cannot be written.
    """
    samples, gain = peak_limited(wave)
    # +1.0 itself has no 16-bit step; it takes the highest one.
    steps = np.round(samples * np.float32(_STEP)).clip(-_STEP, _STEP - 1)
    data = BytesIO()
    soundfile.write(data, steps.astype(np.int16).T, sample_rate, format="WAV", subtype="PCM_16")
    write_whole(Path(path), data.getvalue())
    return gain


def peak_limited(wave: Tensor | np.ndarray) -> tuple[np.ndarray, float]:
    """Samples (C, L) or (L,) -> (the same as (C, L) float32 with a peak of at most 1, gain).

    A clip whose peak exceeds 1 is scaled down as a whole, because clipping distorts. Raises
    UserError if a sample is not finite.
    """
    samples = as_channels(wave)
    peak = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(peak):
        raise UserError("the audio is not finite: its model has diverged, try another ckpt=")
    if peak <= 1:
        return samples, 1.0
    return samples / np.float32(peak), 1.0 / peak


def as_channels(wave: Tensor | np.ndarray) -> np.ndarray:
    """Samples (L,) or (C, L), of any device and float type -> float32 array (C, L).

    Raises ValueError for any other number of dimensions.
    """
    if isinstance(wave, Tensor):
        wave = wave.detach().float().cpu().numpy()
    samples = np.atleast_2d(np.asarray(wave, dtype=np.float32))
    if samples.ndim != 2:
        raise ValueError(f"need (C, L) or (L,), got {tuple(samples.shape)}")
    return samples
