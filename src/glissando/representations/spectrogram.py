"""Magnitude spectrograms, linear or mel: what a vocoder turns back into sound."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from glissando.errors import UserError
from glissando.representations.base import Representation
from glissando.representations.spectrum import Spectrum, Vocoder


class Spectrogram(Representation):
    """Waveform (B, A, L) -> compressed magnitudes (B, A, F, ceil(L / hop)) -> waveform.

    Magnitudes are floored, then their natural logarithm is taken (HiFi-GAN, AudioLDM, MusicLDM) or
    they are raised to ``power`` (Riffusion: 0.25).

    Args:
        sample_rate: Hz. audio_channels: A.
        vocoder: makes the vocoder of a ``Spectrum``.
        n_fft, hop, window, bands, f_min, f_max: see ``Spectrum``.
        power: of the magnitudes, above 0; None: the logarithm.
        floor: the least magnitude, above 0; nothing below it is told apart.

    Raises UserError for values outside these ranges.
    """

    def __init__(
        self,
        sample_rate: int,
        audio_channels: int,
        vocoder: Callable[[Spectrum], Vocoder],
        n_fft: int = 1024,
        hop: int = 256,
        window: int | None = None,
        bands: int | None = None,
        f_min: float = 0.0,
        f_max: float | None = None,
        power: float | None = None,
        floor: float = 1e-5,
    ) -> None:
        for name, value in (("power", power), ("floor", floor)):
            if value is not None and value <= 0:
                raise UserError(f"representation.{name} must be above 0, not {value}")
        spectrum = Spectrum(sample_rate, n_fft, hop, window, bands, f_min, f_max)
        super().__init__(
            audio_channels, spectrum.freqs, hop, sample_rate, audio_channels,
            n_fft=n_fft, window=window, bands=bands, f_min=float(f_min),
            f_max=None if f_max is None else float(f_max),
            power=None if power is None else float(power), floor=float(floor),
        )  # fmt: skip
        self.spectrum, self.vocoder = spectrum, vocoder(spectrum)
        self.power, self.floor = power, floor

    @property
    def reach(self) -> int | None:
        heard = self.vocoder.reach
        return None if heard is None else max(heard, self.spectrum.stft.reach)

    def frames(self, length: int) -> int:
        return self.spectrum.stft.frames(length)

    def encode_piece(self, wave: Tensor) -> Tensor:
        magnitude = self.spectrum(wave).clamp_min(self.floor)
        return magnitude.log() if self.power is None else magnitude**self.power

    def decode_piece(self, z: Tensor, length: int) -> Tensor:
        z = z.float()
        magnitude = z.exp() if self.power is None else z.clamp_min(0) ** (1 / self.power)
        return self.vocoder(magnitude, length)
