"""Encoded audio in memory: FLAC bytes written, and any stretch of a file read back."""

from __future__ import annotations

import io
from typing import BinaryIO, Literal

import numpy as np
import soundfile

from glissando.datasets.base import Refused

#: Names of tar members that hold audio, in the order in which they are looked for.
AUDIO = ("flac", "wav", "ogg", "opus", "mp3", "aiff", "aif")


def encode_flac(wave: np.ndarray, sample_rate: int) -> bytes:
    """(C, L) float in [-1, 1] -> FLAC of 16 bits, clipped at full scale.

    Raises Refused for what FLAC cannot hold: nothing, NaN or infinity, more than 8 channels.
    """
    wave = np.asarray(wave)
    if wave.ndim != 2 or not 1 <= wave.shape[0] <= 8:
        raise Refused(f"audio of shape {wave.shape}, not (channels 1 to 8, samples)")
    if wave.shape[1] == 0:
        raise Refused("no samples")
    if not np.isfinite(wave).all():
        raise Refused("NaN or infinity in the audio")
    file = io.BytesIO()
    soundfile.write(file, wave.T, sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def facts_of(encoded: bytes) -> dict[str, int]:
    """``frames`` (L), ``rate`` (Hz) and ``channels`` from the header of an encoded file.

    Raises soundfile.LibsndfileError for bytes that are no audio.
    """
    info = soundfile.info(io.BytesIO(encoded))
    return {"frames": info.frames, "rate": info.samplerate, "channels": info.channels}


def decode(
    file: BinaryIO, start: int, frames: int, dtype: Literal["float32", "int16"] = "float32"
) -> np.ndarray:
    """``frames`` samples from ``start`` as (C, frames): a seek, then only what is asked for.

    Raises soundfile.LibsndfileError for damaged data, and ValueError where fewer samples come
    out than the header promised (a truncated file).
    """
    with soundfile.SoundFile(file) as sound:
        if start:
            sound.seek(start)
        wave = sound.read(frames, dtype=dtype, always_2d=True).T
    if wave.shape[1] != frames:
        raise ValueError(f"only {wave.shape[1]} of {frames} samples could be decoded")
    return wave
