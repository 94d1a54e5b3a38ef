"""A source of sine tones whose place in the wave can be read off the wave itself."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import numpy as np

from glissando.datasets.base import Clip, Refused

RATE = 8000


@dataclass(frozen=True)
class Tone:
    key: str
    number: int


@dataclass(frozen=True)
class Tones:
    """``clips`` ramps: sample i of clip n is (i mod 8000)/16000 + n/65536, so positions show."""

    clips: int = 20
    seconds: float = 2.0
    valid: int = 5
    channels: int = 1
    bad: tuple[int, ...] = ()
    pause: float = 0.0
    dies: int = -1
    name: str = "tones"

    def settings(self):
        return {"seconds": self.seconds, "channels": self.channels}

    def jobs(self):
        every = [Tone(f"tone{i:04d}", i) for i in range(self.clips + self.valid)]
        return {"train": every[: self.clips], "valid": every[self.clips :]}

    def make(self, job):
        if job.number == self.dies:
            os._exit(9)
        if job.number in self.bad:
            raise Refused("bad on purpose")
        time.sleep(self.pause)
        wave = ramp(job.number, round(self.seconds * RATE))
        facts = {"caption": f"ramp {job.number}", "seconds_total": 60.0, "seconds_start": 10.0}
        return Clip(job.key, np.repeat(wave[None], self.channels, 0), RATE, facts)


def ramp(number: int, length: int) -> np.ndarray:
    steps = np.arange(length) % 8000
    return (steps / 16000 + number / 65536).astype(np.float32)
