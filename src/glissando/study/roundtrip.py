"""What a representation makes of held-out music, there and back, and what that takes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from glissando.losses.reconstruction import STFTDistance
from glissando.metrics.reconstruction import MelError, si_sdr
from glissando.representations.base import Representation


@dataclass(frozen=True)
class RoundTrip:
    """Means over clips, and speeds.

    ``si_sdr`` in dB, ``mel`` as ``MelError`` and ``stft`` as ``STFTDistance`` (seven sizes) have
    it; ``encode`` and ``decode`` are seconds of audio that one thread codes in a second of its
    processor's time; ``clips`` and ``seconds`` say of how much.
    """

    si_sdr: float
    mel: float
    stft: float
    encode: float
    decode: float
    clips: int
    seconds: float


def values_per_second(form: Representation) -> float:
    """The latent's rate: channels times rows times frames a second."""
    return form.channels * form.freqs * form.sample_rate / form.hop


@torch.no_grad()
def round_trip(
    form: Representation, waves: Iterable[Tensor], keep: int = 0
) -> tuple[RoundTrip, list[Tensor]]:
    """Codes ``waves``, each (1, A, L), there and back; what came back of the first ``keep`` too.

    On the processor, one clip and one thread at a time, whatever else the machine does; the first
    clip is coded once before the clock runs. Raises ValueError where there is no clip.
    """
    mel, stft = MelError(form.sample_rate), STFTDistance(form.sample_rate)
    rows: list[tuple[float, float, float]] = []
    kept: list[Tensor] = []
    there = back = samples = 0.0
    with _one_thread():
        for wave in waves:
            length = wave.shape[-1]
            if not rows:
                form.decode(form.encode(wave), length)
            began = time.process_time()
            z = form.encode(wave)
            between = time.process_time()
            again = form.decode(z, length)
            back += time.process_time() - between
            there += between - began
            samples += length
            distances = (si_sdr(again, wave), mel(again, wave), stft(again, wave))
            rows.append(tuple(float(each) for each in distances))  # type: ignore[arg-type]
            if len(kept) < keep:
                kept.append(again[0])
    if not rows:
        raise ValueError("there is no clip to code")
    seconds = samples / form.sample_rate
    means = [fmean(column) for column in zip(*rows, strict=True)]
    # What takes less than the clock's grain took that grain.
    tick = time.get_clock_info("process_time").resolution
    speeds = [seconds / max(took, tick) for took in (there, back)]
    return RoundTrip(*means, *speeds, clips=len(rows), seconds=seconds), kept


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
