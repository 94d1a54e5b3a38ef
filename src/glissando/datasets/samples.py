"""One sample read from a shard: only the bytes of the crop, with its true place in the piece."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal, NamedTuple, cast

import numpy as np

from glissando.datasets.arrays import array_of, arrays_of
from glissando.datasets.audio import AUDIO, decode
from glissando.datasets.base import Refused
from glissando.datasets.shards import Shard

#: A member longer than this is read piecewise while it is decoded, a shorter one at once.
AT_ONCE = 512 * 1024


class Piece(NamedTuple):
    """A crop: ``data`` is (C, L) float32 audio, or (C, F, T) of a latent as it is stored.

    Batches turn float16 into float32, which torch does ten times as fast as NumPy.
    """

    key: str
    data: np.ndarray
    attributes: dict[str, Any]


class Crop(NamedTuple):
    """``length`` frames of a clip (None: all of it), beginning at the fraction ``place`` in [0, 1)
    of the possible beginnings."""

    length: int | None
    place: float

    def cut(self, frames: int) -> tuple[int, int]:
        """(start, length) within a clip of ``frames``; a shorter clip is taken whole."""
        if self.length is None or frames <= self.length:
            return 0, frames
        return int(self.place * (frames - self.length + 1)), self.length


class Member(io.RawIOBase):
    """One member of a shard as a file that is read where one seeks to, not as a whole."""

    def __init__(self, shard: Shard, offset: int, size: int) -> None:
        self._shard, self._offset, self._size, self._at = shard, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(0, self._size - self._at))
        got = self._shard.read(self._offset + self._at, wanted)
        buffer[: len(got)] = got
        self._at += len(got)
        return len(got)


@dataclass
class AudioReader:
    """Reads crops of encoded audio: (C, L) float32, at ``sample_rate`` and ``channels``.

    A sample with another sample rate or number of channels is Refused: batches are of one form.
    """

    sample_rate: int
    channels: int
    cache: dict[tuple[Any, str], tuple[np.ndarray, dict]] | None = field(default=None, repr=False)

    @property
    def frame_rate(self) -> float:
        """Frames a second, in which crops are counted."""
        return self.sample_rate

    def read(self, shard: Shard, sample: Mapping[str, Any], crop: Crop) -> Piece:
        if (sample["rate"], sample["channels"]) != (self.sample_rate, self.channels):
            raise Refused(
                f"{sample['channels']} channels at {sample['rate']} Hz among "
                f"{self.channels} at {self.sample_rate} Hz"
            )
        start, length = crop.cut(sample["frames"])
        if self.cache is None:
            wave = self._decode(shard, sample, start, length, "float32")
            attributes = attributes_of(shard, sample)
        else:
            spot = (shard.path, sample["key"])
            if spot not in self.cache:  # whole, as 16 bits: half the memory, and exact for FLAC
                whole = self._decode(shard, sample, 0, sample["frames"], "int16")
                self.cache[spot] = whole, attributes_of(shard, sample)
            whole, attributes = self.cache[spot]
            wave = whole[:, start : start + length].astype(np.float32) / 32768
        return Piece(sample["key"], wave, placed(attributes, start / self.sample_rate))

    def _decode(
        self,
        shard: Shard,
        sample: Mapping[str, Any],
        start: int,
        length: int,
        dtype: Literal["float32", "int16"],
    ) -> np.ndarray:
        offset, size = sample["members"][audio_name(sample)]
        if size <= AT_ONCE:
            file = io.BytesIO(shard.read(offset, size))
        else:
            file = cast(BinaryIO, io.BufferedReader(Member(shard, offset, size), 64 * 1024))
        return decode(file, start, length, dtype)


@dataclass
class LatentReader:
    """Reads crops of cached latents: (C, F, T) from ``<key>.npy`` (float16).

    The arrays in ``<key>.npz``, whole, are attributes of the clip.

    ``frame_rate`` is sample_rate / hop, in Hz.
    """

    frame_rate: float
    cache: dict[tuple[Any, str], tuple[np.ndarray, dict]] | None = field(default=None, repr=False)

    def read(self, shard: Shard, sample: Mapping[str, Any], crop: Crop) -> Piece:
        spot = (shard.path, sample["key"])
        if self.cache is not None and spot in self.cache:
            latent, attributes = self.cache[spot]
        else:
            latent = _latent(shard.member(sample, "npy"))
            attributes = attributes_of(shard, sample)
            if "npz" in sample["members"]:
                attributes |= arrays_of(shard.member(sample, "npz"))
            if self.cache is not None:
                self.cache[spot] = latent, attributes
        start, length = crop.cut(latent.shape[-1])
        data = latent[..., start : start + length]
        return Piece(sample["key"], data, placed(attributes, start / self.frame_rate))


def audio_name(sample: Mapping[str, Any]) -> str:
    """The name of the member that holds the audio ("flac"); Refused if there is none."""
    for name in AUDIO:
        if name in sample["members"]:
            return name
    raise Refused("no audio member")


def attributes_of(shard: Shard, sample: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a sample: its ``json``, or the caption in its ``txt``."""
    if "json" in sample["members"]:
        attributes = json.loads(shard.member(sample, "json"))
        if not isinstance(attributes, dict):
            raise Refused("its json is not an object")
        return attributes
    if "txt" in sample["members"]:
        return {"caption": shard.member(sample, "txt").decode().strip()}
    return {}


def _latent(content: bytes) -> np.ndarray:
    latent = array_of(content)
    if latent.ndim != 3 or latent.dtype.kind != "f":
        raise Refused(f"no latent: {latent.dtype} of shape {latent.shape}")
    return latent


def placed(attributes: Mapping[str, Any], offset: float) -> dict[str, Any]:
    """A crop's own attributes: ``seconds_start`` moves by ``offset`` seconds, ``seconds_total``
    stays. ``crop_start`` is the offset within the stored clip, to which stored notes refer."""
    start = float(attributes.get("seconds_start", 0.0)) + offset
    return {**attributes, "seconds_start": start, "crop_start": offset}
