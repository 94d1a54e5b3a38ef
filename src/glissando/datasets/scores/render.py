"""Notes -> sound, with a SoundFont synthesizer (tinysoundfont).

The synthesizer reads its samples by linear interpolation with no anti-alias filter: at 22.05 kHz a
harpsichord's aliases lie only 14 dB below the music. So it runs at a multiple of the rate that is
at least 44.1 kHz, and soxr brings the rate down.

Beware of "stereo": the default font, TimGM6mb, has organ, violin, piano and most others in dual
mono (left equals right), strings nearly uncorrelated and choir in between. For stereo work give
another font, such as FluidR3 (``data.soundfont=/path/to/FluidR3_GM.sf2``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from glissando.datasets.scores.catalogue import INSTALL, package_folder
from glissando.errors import UserError

LOUDNESS = -20.0  # K-weighted level of every clip, dB re full scale
PEAK = 0.97
FADE_IN, FADE_OUT = 0.002, 0.06  # s
OVERSAMPLED = 44100  # lowest rate of the synthesizer

Event = tuple[float, float, int, int]  # onset (s), duration (s), MIDI pitch, velocity


def default_font() -> Path:
    """TimGM6mb.sf2 (GPL-2), inside the wheel of pretty_midi."""
    return package_folder("pretty_midi") / "TimGM6mb.sf2"


@lru_cache(maxsize=2)
def font_bytes(path: str | None) -> bytes:
    """The SoundFont's content; ``None`` is the default font."""
    file = Path(path) if path else default_font()
    if not file.is_file():
        raise UserError(f"data.soundfont={path}: there is no such file (an .sf2 SoundFont)")
    return file.read_bytes()


@lru_cache(maxsize=2)
def font_identity(path: str | None) -> str:
    """What names the font wherever it lies: the beginning of its SHA-256."""
    return hashlib.sha256(font_bytes(path)).hexdigest()[:16]


def render(
    events: Sequence[Event],
    program: int,
    seconds: float,
    sample_rate: int,
    channels: int = 1,
    soundfont: str | None = None,
) -> np.ndarray:
    """Play events on one General MIDI program: (C, L) float32, L = seconds * sample_rate.

    A fresh synthesizer per call makes the result a function of the arguments alone. Notes still
    sounding at the end are cut there under a short fade. The level is ``LOUDNESS`` unless that
    would put a peak above ``PEAK``.
    """
    length = round(seconds * sample_rate)
    factor = max(1, -(-OVERSAMPLED // sample_rate))
    wave = _synthesize(events, program, length * factor, sample_rate * factor, soundfont)
    if channels == 1:
        wave = wave.mean(axis=1, keepdims=True)
    if factor > 1:
        import soxr

        wave = soxr.resample(wave, factor, 1)[:length]
        wave = np.pad(wave, ((0, length - len(wave)), (0, 0)))
    wave = normalize(_without_dc(wave.T.astype(np.float64), sample_rate), sample_rate)
    return (wave * _fades(length, sample_rate)).astype(np.float32)


def _synthesize(
    events: Sequence[Event], program: int, frames: int, rate: int, soundfont: str | None
) -> np.ndarray:
    try:
        import tinysoundfont
    except ImportError as error:
        raise UserError(f"data=scores needs the package tinysoundfont: {INSTALL}") from error
    synth = tinysoundfont.Synth(samplerate=rate)
    try:
        font = synth.sfload(font_bytes(soundfont))
        synth.program_select(0, font, 0, program)
    except Exception as error:
        raise UserError(f"data.soundfont={soundfont}: cannot play it ({error})") from error
    # At equal times notes end before others begin, so that a repeated pitch is struck again.
    changes = sorted(
        (min(round(time * rate), frames), velocity, pitch)
        for onset, duration, pitch, loud in events
        for time, velocity in ((onset, loud), (onset + duration, 0))
    )
    wave = np.zeros((frames, 2), np.float32)
    done = 0
    for time, velocity, pitch in [*changes, (frames, 0, 0)]:
        if time > done:
            part = memoryview(bytearray((time - done) * 8))
            wave[done:time] = np.frombuffer(
                synth.generate_simple(time - done, part), np.float32
            ).reshape(-1, 2)
            done = time
        if velocity:
            synth.noteon(0, pitch, velocity)
        else:
            synth.noteoff(0, pitch)
    return wave


def _without_dc(wave: np.ndarray, sample_rate: int, corner: float = 15.0) -> np.ndarray:
    """Remove the offset that some samples of the font have, with a zero-phase high-pass."""
    length = wave.shape[1]
    # Room for the filter to ring out, up to a length whose FFT is fast (some primes take 5x).
    padded = -(-(length + sample_rate // 4) // 4096) * 4096
    f = np.fft.rfftfreq(padded, 1 / sample_rate)
    gain = f**2 / (f**2 + corner**2)
    return np.fft.irfft(np.fft.rfft(wave, padded) * gain, padded)[:, :length]


def k_weighting(f: np.ndarray, sample_rate: int) -> np.ndarray:
    """Power gain of the two filters of ITU-R BS.1770-4 at frequencies f (Hz), at any rate.

    Parameters of the analogue prototypes as recovered by De Man (2014): a high shelf of +4 dB at
    1682 Hz and a high-pass at 38 Hz.
    """
    z = np.exp(-2j * np.pi * f / sample_rate)
    k, q = np.tan(np.pi * 1681.974450955533 / sample_rate), 0.7071752369554196
    vh, vb = 10 ** (3.999843853973347 / 20), 10 ** (3.999843853973347 / 20 * 0.4996667741545416)
    shelf = (vh + vb * k / q + k * k) + 2 * (k * k - vh) * z + (vh - vb * k / q + k * k) * z**2
    shelf = shelf / ((1 + k / q + k * k) + 2 * (k * k - 1) * z + (1 - k / q + k * k) * z**2)
    k, q = np.tan(np.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    high = (1 - z) ** 2 * (1 + k / q + k * k)
    high = high / ((1 + k / q + k * k) + 2 * (k * k - 1) * z + (1 - k / q + k * k) * z**2)
    return np.abs(shelf * high) ** 2


@lru_cache(maxsize=2)
def _weights(length: int, sample_rate: int) -> np.ndarray:
    return k_weighting(np.fft.rfftfreq(length, 1 / sample_rate), sample_rate)


def loudness(wave: np.ndarray, sample_rate: int) -> float:
    """K-weighted level in dB of (C, L), mean over time and channels, without gating."""
    length = wave.shape[1]
    power = np.abs(np.fft.rfft(wave)) ** 2 * _weights(length, sample_rate)
    return float(10 * np.log10(max(2 * power.sum() / length**2 / len(wave), 1e-12)))


def normalize(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """The wave at the common loudness, lower where its peak would not fit; silence unchanged."""
    peak = np.abs(wave).max()
    if peak < 1e-4:
        return wave
    gain = 10 ** ((LOUDNESS - loudness(wave, sample_rate)) / 20)
    return wave * min(gain, PEAK / peak)


def _fades(length: int, sample_rate: int) -> np.ndarray:
    gain = np.ones(length)
    for seconds, where in ((FADE_IN, slice(None)), (FADE_OUT, slice(None, None, -1))):
        count = min(round(seconds * sample_rate), length)
        gain[where][:count] *= np.sin(np.linspace(0, np.pi / 2, count)) ** 2
    return gain


def brightness(wave: np.ndarray, sample_rate: int) -> float:
    """Spectral centroid of the power, in Hz, of (C, L)."""
    power = (np.abs(np.fft.rfft(wave)) ** 2).sum(axis=0)
    f = np.fft.rfftfreq(wave.shape[1], 1 / sample_rate)
    return float((power * f).sum() / max(power.sum(), 1e-20))
