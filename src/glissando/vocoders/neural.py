"""A trained vocoder, whatever its network."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from torch import Tensor, nn

from glissando.representations.chunked import reach_of
from glissando.representations.spectrum import Spectrum, Vocoder

FLOOR = 1e-5  # the least magnitude that a network is told of


class NeuralVocoder(Vocoder):
    """Magnitudes -> their logarithm -> ``network`` -> waveform, each channel by itself.

    As every generator that ``training.generator`` trains it also says what it is given in training:
    ``degrade``, here the spectrum itself.

    Args:
        network: made by ``network(freqs=F, stft=)``; log magnitudes (N, F, T), the natural
            logarithm of what is floored at ``FLOOR``, -> (N, T hop).
    """

    kind = "vocoder"

    def __init__(self, spectrum: Spectrum, network: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.spectrum = spectrum
        self.network = network(freqs=spectrum.freqs, stft=spectrum.stft)

    @property
    def sample_rate(self) -> int:
        return self.spectrum.sample_rate

    @cached_property
    def reach(self) -> int | None:  # type: ignore[override]
        """As far as the network's layers reach together, whatever they are (``reach_of``)."""
        like = next(self.network.parameters()).new_zeros(1, 1, 1)
        return reach_of(self.degrade, self, like, self.spectrum.stft.hop)

    def degrade(self, wave: Tensor) -> Tensor:
        """(B, A, L) -> magnitudes (B, A, F, T)."""
        return self.spectrum(wave)

    def forward(self, magnitude: Tensor, length: int) -> Tensor:
        return sound(self.network, magnitude, length)


def sound(network: nn.Module, magnitude: Tensor, length: int) -> Tensor:
    """(B, A, F, T) -> (B, A, length) float32: what ``network`` makes of the floored logarithm."""
    logs = magnitude.flatten(0, 1).clamp_min(FLOOR).log()
    return network(logs).unflatten(0, magnitude.shape[:2])[..., :length].float()
