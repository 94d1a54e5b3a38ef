"""Fast Griffin-Lim (Perraudin, Balazs & Søndergaard 2013): a vocoder that needs no training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from glissando.errors import UserError
from glissando.representations.spectrum import Spectrum, Vocoder
from glissando.vocoders.unmel import unmel

_TINY = 1e-16  # a magnitude whose phase is of no account


class GriffinLim(Vocoder):
    """Phases that fit the magnitudes, by projecting in turn on what has the magnitudes and on what
    is the spectrum of a waveform.

    With t_n = STFT(inverse(c_n-1)), the next c_n has the wanted magnitudes and the phases of
    t_n + momentum (t_n - t_n-1) (algorithm 2). Mel bands are first spread over the bins
    (``unmel``).

    The phases at the start are drawn once, one for each bin and the same in every frame, from a
    fixed seed. So the same magnitudes always give the same sound and a chunk of a clip sounds as it
    does in the whole; and that costs nothing (log-mel error on music .069, with phases drawn anew
    for every frame .067; on clicks both .43, with phases of zero .78).

    Args:
        iterations: at least 1; momentum: from 0 (Griffin and Lim 1984) to 1; .99 as published.

    Raises UserError for values outside these ranges.
    """

    phase: Tensor

    def __init__(self, spectrum: Spectrum, iterations: int = 32, momentum: float = 0.99) -> None:
        super().__init__()
        if iterations < 1:
            raise UserError(f"griffin_lim.iterations must be at least 1, not {iterations}")
        if not 0 <= momentum <= 1:
            raise UserError(f"griffin_lim.momentum must be from 0 to 1, not {momentum}")
        self.spectrum, self.iterations, self.momentum = spectrum, iterations, momentum
        chance = torch.Generator().manual_seed(0)
        phase = 2 * math.pi * torch.rand(spectrum.stft.bins, 1, generator=chance)
        self.register_buffer("phase", phase, persistent=False)

    @property
    def reach(self) -> int:
        """Each iteration passes on what it learned to the frames that overlap."""
        stft = self.spectrum.stft
        return (self.iterations + 1) * ((stft.n_fft - 1) // stft.hop)

    def forward(self, magnitude: Tensor, length: int) -> Tensor:
        stft, filters = self.spectrum.stft, self.spectrum.filters
        with torch.autocast(magnitude.device.type, enabled=False):
            magnitude = magnitude.float()
            wanted = magnitude if filters is None else unmel(magnitude, filters)
            complete = wanted.shape[-1] * stft.hop
            estimate = torch.polar(wanted, self.phase.expand_as(wanted))
            before = torch.zeros_like(estimate)
            for _ in range(self.iterations):
                consistent = stft(stft.inverse(estimate, complete))
                ahead = consistent + self.momentum * (consistent - before)
                estimate = ahead * (wanted / ahead.abs().clamp_min(_TINY))
                before = consistent
            return stft.inverse(estimate, length)
