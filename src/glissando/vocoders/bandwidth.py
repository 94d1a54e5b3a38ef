"""Bandwidth extension: the upper half of the spectrum, made of the lower (MusicHiFi-BWE)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from glissando.errors import UserError
from glissando.networks.resample import Resampler
from glissando.representations.spectrum import Spectrum
from glissando.vocoders.widening import Widening


class BandwidthExtension(Widening):
    """up(input) and, of what the network makes, that which down-sampling would remove.

    So the input comes back from the output: down(output) = down(up(input)), but for the filter's
    last 8% below the old Nyquist frequency (``Resampler``). Each channel goes by itself.

    Args:
        sample_rate: Hz of what it makes; a whole multiple of that of ``spectrum``.
    """

    rate_flag = "input_rate"

    def __init__(
        self, spectrum: Spectrum, network: Callable[..., nn.Module], sample_rate: int
    ) -> None:
        ratio, rest = divmod(sample_rate, spectrum.sample_rate)
        if rest or ratio < 2:
            raise UserError(
                f"input_rate={spectrum.sample_rate} must be data.sample_rate={sample_rate} divided "
                "by a whole number from 2 up"
            )
        super().__init__(spectrum, network, ratio)
        self.resampler = Resampler(ratio)

    def channels(self, given: int) -> int:
        return given

    def degrade(self, wave: Tensor) -> Tensor:
        return self.resampler.down(wave)

    def forward(self, given: Tensor, length: int) -> Tensor:
        made = self.added(given)
        high = made - self.resampler.up(self.resampler.down(made))
        return (self.resampler.up(given) + high)[..., :length]
