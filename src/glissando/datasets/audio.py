"""Encoded audio in memory: FLAC bytes written, and any stretch of a file read back."""

from __future__ import annotations

import io
import math
from typing import BinaryIO, Literal

import numpy as np
import soundfile
import soxr

from glissando.datasets.base import Refused

#: Names of tar members that hold audio, in the order in which they are looked for.
AUDIO = ("flac", "wav", "ogg", "opus", "mp3", "aiff", "aif")
#: Seconds (at least) read on either side of a stretch, so that resampling sees no edge there.
CONTEXT = 0.05
#: No codec says more with a byte: FLAC needs 11 bytes for its longest block of 65,535 samples.
SAMPLES_PER_BYTE = 6000
#: Samples (of a channel) decoded at once, where it is not known that they are really there.
BLOCK = 2**20


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


def facts_of(file: BinaryIO, size: int) -> dict[str, int]:
    """``frames`` (L), ``rate`` (Hz) and ``channels`` from the header of an encoded file of ``size``
    bytes.

    Raises soundfile.LibsndfileError for bytes that are no audio, Refused for a header that cannot
    be true.
    """
    info = soundfile.info(file)
    plausible(info.frames, size)
    return {"frames": info.frames, "rate": info.samplerate, "channels": info.channels}


def plausible(frames: int, size: int) -> None:
    """Raises Refused where a file of ``size`` bytes cannot hold the ``frames`` it claims."""
    if frames <= 0:
        raise Refused("no samples")
    if frames > SAMPLES_PER_BYTE * size:
        raise Refused(f"its header claims {frames} samples in {size} bytes")


def decode(
    file: BinaryIO, start: int, frames: int, dtype: Literal["float32", "int16"] = "float32"
) -> np.ndarray:
    """``frames`` samples from ``start`` as (C, frames): a seek, then only what is asked for.

    Raises soundfile.LibsndfileError for damaged data, and ValueError where fewer samples come
    out than the header promised (a truncated file).
    """
    with soundfile.SoundFile(file) as sound:
        wave = _blocks(sound, start, frames, dtype).T
    if wave.shape[1] != frames:
        raise ValueError(f"only {wave.shape[1]} of {frames} samples could be decoded")
    return wave


def converted(frames: int, rate: int, sample_rate: int) -> int:
    """How many samples at ``sample_rate`` there are in ``frames`` at ``rate``."""
    return frames * sample_rate // rate


def stretch(
    sound: soundfile.SoundFile, start: int, length: int, sample_rate: int, channels: int
) -> np.ndarray:
    """(channels, length): the samples from ``start``, both counted at ``sample_rate``.

    Resampled (soxr, very high quality) with some of what surrounds them, so that stretches of a
    file join without seams; mixed down to mono by the mean, or repeated from mono. Raises Refused
    for other numbers of channels, and where the file ends before its header says.
    """
    rate = sound.samplerate
    # Begin where a sample of the file and one of the result fall together: at a multiple of
    # 1/grid seconds. Elsewhere stretches would be shifted by part of a sample.
    grid = math.gcd(rate, sample_rate)
    begin = max(0, math.floor((start / sample_rate - CONTEXT) * grid))
    first = begin * (rate // grid)
    end = math.ceil(((start + length) / sample_rate + CONTEXT) * rate)
    wanted = min(sound.frames, end) - first
    wave = _blocks(sound, first, wanted, "float32")
    if len(wave) < wanted - CONTEXT * rate:  # lossy formats only estimate their length
        raise Refused("truncated: it ends before its header says")
    wave = soxr.resample(mixed(wave, channels), rate, sample_rate, "VHQ")
    wave = wave[start - begin * (sample_rate // grid) :][:length]
    return np.ascontiguousarray(wave.T, dtype=np.float32)


def mixed(wave: np.ndarray, channels: int) -> np.ndarray:
    """(L, any) -> (L, channels): the mean to mono, mono repeated, else the first channels."""
    there = wave.shape[1]
    if there == channels:
        return wave
    if channels == 1:
        return wave.mean(axis=1, keepdims=True)
    if there == 1:
        return np.repeat(wave, channels, axis=1)
    if there > channels:
        return wave[:, :channels]
    raise Refused(f"{there} channels where data.channels={channels}")


def _blocks(
    sound: soundfile.SoundFile, start: int, frames: int, dtype: Literal["float32", "int16"]
) -> np.ndarray:
    """(frames, C) or fewer, never much more memory than is really decoded."""
    if start:
        sound.seek(start)
    if frames <= BLOCK:
        return sound.read(frames, dtype=dtype, always_2d=True)
    blocks = []
    while frames > 0:
        blocks.append(sound.read(min(frames, BLOCK), dtype=dtype, always_2d=True))
        frames -= BLOCK
        if len(blocks[-1]) < BLOCK:
            break
    return np.concatenate(blocks)
