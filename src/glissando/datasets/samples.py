"""One sample read from a shard: only the bytes of the crop, with its true place in the piece."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import soundfile

from glissando.datasets.arrays import Buffer, array_of, arrays_of
from glissando.datasets.audio import AUDIO, converted, decode, stretch
from glissando.datasets.base import Refused
from glissando.datasets.captions import captioned, short
from glissando.datasets.shards import Shard
from glissando.datasets.stores import is_remote, window

#: A member longer than this is read piecewise while it is decoded, a shorter one at once.
AT_ONCE = 512 * 1024
#: Requests that a server is to answer at a time, where many small ones are made.
AT_A_TIME = 16
#: The members that describe a sample.
TEXTS = frozenset({"json", "txt"})
#: And those of a latent.
CODED = TEXTS | {"npy", "npz"}


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


@dataclass
class AudioReader:
    """Reads crops of encoded audio: (C, L) float32, at ``sample_rate`` and ``channels``.

    What is stored at another rate is resampled, other channels mixed, as ``stretch`` does.
    """

    sample_rate: int
    channels: int
    whole: ClassVar[bool] = False
    """Whether all of a sample is read, whatever the crop."""
    cache: dict[tuple[Any, str], tuple[np.ndarray, dict]] | None = field(default=None, repr=False)

    @property
    def frame_rate(self) -> float:
        """Frames a second, in which crops are counted."""
        return self.sample_rate

    def read(self, shard: Shard, sample: Mapping[str, Any], crop: Crop) -> Piece:
        total = converted(sample["frames"], sample["rate"], self.sample_rate)
        start, length = crop.cut(total)
        if self.cache is None:
            wave = self._decode(shard, sample, start, length)
            attributes = attributes_of(shard, sample)
        else:
            spot = (shard.path, sample["key"])
            if spot not in self.cache:  # whole, as 16 bits: half the memory, and exact for FLAC
                whole = self._decode(shard, sample, 0, total, "int16")
                self.cache[spot] = whole, attributes_of(shard, sample)
            whole, attributes = self.cache[spot]
            wave = whole[:, start : start + length].astype(np.float32) / 32768
        return Piece(sample["key"], wave, placed(attributes, start / self.sample_rate))

    def all_of(self, shard: Shard, sample: Mapping[str, Any]) -> np.ndarray:
        """All of a sample's audio."""
        total = converted(sample["frames"], sample["rate"], self.sample_rate)
        return self._decode(shard, sample, 0, total)

    def _decode(
        self,
        shard: Shard,
        sample: Mapping[str, Any],
        start: int,
        length: int,
        dtype: Literal["float32", "int16"] = "float32",
    ) -> np.ndarray:
        offset, size = sample["members"][audio_name(sample)]
        total = converted(sample["frames"], sample["rate"], self.sample_rate)
        if size <= AT_ONCE or 2 * length >= total:
            file = io.BytesIO(shard.read(offset, size))
        else:
            file = window(shard, offset, size)
        if (sample["rate"], sample["channels"]) == (self.sample_rate, self.channels):
            return decode(file, start, length, dtype)
        with soundfile.SoundFile(file) as sound:
            wave = stretch(sound, start, length, self.sample_rate, self.channels)
        if wave.shape[1] != length:
            raise ValueError(f"only {wave.shape[1]} of {length} samples could be decoded")
        if dtype == "float32":
            return wave
        return np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)


@dataclass
class LatentReader:
    """Reads crops of cached latents: (C, F, T) from ``<key>.npy`` (float16).

    The arrays in ``<key>.npz``, whole, are attributes of the clip.

    ``frame_rate`` is sample_rate / hop, in Hz.
    """

    frame_rate: float
    whole: ClassVar[bool] = True
    cache: dict[tuple[Any, str], tuple[np.ndarray, dict]] | None = field(default=None, repr=False)

    def read(self, shard: Shard, sample: Mapping[str, Any], crop: Crop) -> Piece:
        spot = (shard.path, sample["key"])
        if self.cache is not None and spot in self.cache:
            latent, attributes = self.cache[spot]
        else:
            latent, attributes = self._whole(shard, sample)
            if self.cache is not None:
                self.cache[spot] = latent, attributes
        start, length = crop.cut(latent.shape[-1])
        data = latent[..., start : start + length]
        return Piece(sample["key"], data, placed(attributes, start / self.frame_rate))

    def _whole(self, shard: Shard, sample: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
        members = shard.members(_described_briefly(sample), CODED)
        latent = _latent(members["npy"])
        attributes = _with_caption(shard, sample, described(members))
        if "npz" in members:
            attributes |= arrays_of(members["npz"])
        return latent, attributes


def audio_name(sample: Mapping[str, Any]) -> str:
    """The name of the member that holds the audio ("flac"); Refused if there is none."""
    for name in AUDIO:
        if name in sample["members"]:
            return name
    raise Refused("no audio member")


def attributes_of(shard: Shard, sample: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a sample, with a ``caption`` in any case, made by the dataset's template
    if there is one. Raises Refused as ``written``, and where fields are missing in the template."""
    return _with_caption(shard, sample, written(shard, sample))


def all_attributes(shard: Shard) -> Iterator[dict[str, Any]]:
    """``attributes_of`` every sample in turn; a server is asked for several at once."""
    if not is_remote(shard.tar):
        yield from (attributes_of(shard, sample) for sample in shard.samples)
        return
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield from pool.map(partial(attributes_of, shard), shard.samples)


def _with_caption(
    shard: Shard, sample: Mapping[str, Any], attributes: dict[str, Any]
) -> dict[str, Any]:
    if shard.caption is not None or "caption" not in attributes:
        name = sample["key"].rpartition("/")[2]
        attributes["caption"] = captioned(attributes, shard.caption, name)
    return attributes


def written(shard: Shard, sample: Mapping[str, Any]) -> dict[str, Any]:
    """What is written of a sample: its ``json``, or the caption in its ``txt``.

    Raises Refused for what is no description of a clip: too long, not an object, a caption that
    is no text, times that are no numbers.
    """
    return described(shard.members(_described_briefly(sample), TEXTS))


def _described_briefly(sample: Mapping[str, Any]) -> Mapping[str, Any]:
    """The sample. Raises Refused where a text is too long to be read for a description."""
    for name in TEXTS & sample["members"].keys():
        short(sample["members"][name][1], name)
    return sample


def described(texts: Mapping[str, Buffer]) -> dict[str, Any]:
    """``written`` out of the contents of the members ``json`` and ``txt``."""
    if "json" not in texts:
        return {"caption": _text(texts["txt"])} if "txt" in texts else {}
    try:
        attributes = json.loads(bytes(texts["json"]))
    except (ValueError, RecursionError) as error:
        raise Refused(f"its json is unreadable ({error})") from None
    if not isinstance(attributes, dict):
        raise Refused("its json is not an object")
    if attributes.get("caption") is None and "txt" in texts:
        attributes["caption"] = _text(texts["txt"])
    if not isinstance(attributes.get("caption", ""), str):
        raise Refused("its caption is no text")
    for name in ("seconds_start", "seconds_total"):
        number = attributes.get(name, 0.0)
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise Refused(f"its {name} is no number")
        if not math.isfinite(number):
            raise Refused(f"its {name} is not finite")
    return attributes


def _text(content: Buffer) -> str:
    return bytes(content).decode().strip()


def _latent(content: Buffer) -> np.ndarray:
    latent = array_of(content)
    if latent.ndim != 3 or latent.dtype.kind != "f":
        raise Refused(f"no latent: {latent.dtype} of shape {latent.shape}")
    return latent


def placed(attributes: Mapping[str, Any], offset: float) -> dict[str, Any]:
    """A crop's own attributes: ``seconds_start`` moves by ``offset`` seconds, ``seconds_total``
    stays. ``crop_start`` is the offset within the stored clip, to which stored notes refer."""
    start = float(attributes.get("seconds_start", 0.0)) + offset
    return {**attributes, "seconds_start": start, "crop_start": offset}
