"""What comes after a vocoder: more bandwidth, a second channel (MusicHiFi, Zhu et al. 2024)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glissando.errors import UserError
from glissando.representations import chunked
from glissando.representations.spectrum import Spectrum
from glissando.representations.stft import STFT
from glissando.vocoders.neural import sound


class Widening(nn.Module, ABC):
    """A waveform -> itself and what ``network`` adds to it, made of its spectrum.

    Args:
        spectrum: of what it is given.
        network: made by ``network(freqs=F, stft=)``, as a vocoder's, for ``ratio`` times the rate.
    """

    kind = "cascade"
    rate_flag: str
    """The flag of the training command that says what rate it is given."""

    def __init__(
        self, spectrum: Spectrum, network: Callable[..., nn.Module], ratio: int = 1
    ) -> None:
        super().__init__()
        self.spectrum, self.ratio = spectrum, ratio
        stft = STFT(spectrum.stft.n_fft * ratio, spectrum.stft.hop * ratio)
        self.network = network(freqs=spectrum.freqs, stft=stft)

    @property
    def input_rate(self) -> int:
        """Hz of what it is given."""
        return self.spectrum.sample_rate

    @property
    def sample_rate(self) -> int:
        """Hz of what it makes."""
        return self.input_rate * self.ratio

    @abstractmethod
    def channels(self, given: int) -> int:
        """Channels that it makes of ``given`` ones. Raises UserError where it takes none such."""

    @abstractmethod
    def degrade(self, wave: Tensor) -> Tensor:
        """What it is given of a waveform (B, A, L) in training."""

    @abstractmethod
    def forward(self, given: Tensor, length: int) -> Tensor:
        """(B, A, L) -> (B, A', length), ``length`` at most L ratio."""

    def added(self, given: Tensor) -> Tensor:
        """(B, A, L) -> (B, A, L ratio): what the network makes of its spectrum."""
        return sound(self.network, self.spectrum(given), given.shape[-1] * self.ratio)

    @torch.no_grad()
    def widen(self, wave: Tensor) -> Tensor:
        """(B, A, L) -> (B, A', L ratio), in chunks where it is long (``chunked``)."""
        length, blocks = wave.shape[-1] * self.ratio, self._blocks(wave)
        if self.reach is None:
            return self._piece(blocks, length)
        hop = self.spectrum.stft.hop * self.ratio
        return chunked.decode(self._piece, blocks, length, hop, self.reach)

    @cached_property
    def reach(self) -> int | None:
        """Blocks on either side of its own that a block is heard in (``reach_of``)."""
        like = next(self.network.parameters()).new_zeros(1, 2, 1)
        hop = self.spectrum.stft.hop * self.ratio
        return chunked.reach_of(lambda w: self._blocks(self.degrade(w)), self._piece, like, hop)

    def _blocks(self, wave: Tensor) -> Tensor:
        """(B, A, L) -> (B, A, hop, T), silence after the end."""
        hop = self.spectrum.stft.hop
        return F.pad(wave, (0, -wave.shape[-1] % hop)).unflatten(-1, (-1, hop)).mT

    def _piece(self, blocks: Tensor, length: int) -> Tensor:
        return self(blocks.mT.flatten(-2), length)


class Cascade:
    """Several widenings, one after the other.

    Args:
        parts: by the flag that named each, as messages give it.
    """

    def __init__(self, parts: Sequence[tuple[str, Widening]]) -> None:
        self.parts = parts

    def check(self, rate: int, channels: int) -> tuple[int, int]:
        """The rate in Hz and the channels of what it makes of sound with these.

        Raises UserError, naming the part, where one was trained for others.
        """
        for given, part in self.parts:
            if rate != part.input_rate:
                raise UserError(
                    f"{given} takes {part.input_rate} Hz and would be given {rate}: use another, "
                    f"or train one with {part.rate_flag}={rate}"
                )
            try:
                channels = part.channels(channels)
            except UserError as error:
                raise UserError(f"{given} {error}") from None
            rate = part.sample_rate
        return rate, channels

    def __call__(self, wave: Tensor) -> Tensor:
        """(A, L) -> (A', L'), on the CPU."""
        for _, part in self.parts:
            device = next(part.parameters()).device
            wave = part.widen(wave[None].to(device))[0].cpu()
        return wave
