"""Short-time Fourier transforms: blocks of samples <-> complex frames, exact to the last sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glissando.errors import UserError
from glissando.networks.precision import full_precision


class STFT(nn.Module):
    """Waveform (..., L) <-> complex spectrum (..., n_fft // 2 + 1, T) with T = ceil(L / hop).

    Frame k is centred on the middle of samples k hop … (k + 1) hop - 1, with zeros around the clip:
    the framing of HiFi-GAN, AudioLDM and Vocos ("same"), in which T frames are T hop samples. The
    window is a periodic Hann, as long as a frame unless ``window`` (in samples) is shorter; nothing
    is normalized, so that a sine of amplitude a peaks at a window / 4.

    Raises UserError where frames leave gaps: ``hop`` may be half a window.
    """

    window: Tensor

    def __init__(self, n_fft: int, hop: int, window: int | None = None) -> None:
        super().__init__()
        length = n_fft if window is None else window
        if not 2 <= length <= n_fft:
            raise UserError(
                f"representation.window={length} must be from 2 to representation.n_fft={n_fft}"
            )
        # 510 / 256, which EDMSound takes for its 256 bins, is half a window but for one sample.
        if not 1 <= hop <= length // 2 + 1:
            raise UserError(
                f"representation.hop={hop} leaves gaps between windows of {length} samples: set it "
                f"to {length // 2} at most"
            )
        self.n_fft, self.hop, self.bins = n_fft, hop, n_fft // 2 + 1
        self.before = (n_fft - hop) // 2  # samples of a frame that lie before its block
        padded = F.pad(torch.hann_window(length), (((n_fft - length) // 2),) * 2)
        self.register_buffer("window", F.pad(padded, (0, n_fft - len(padded))), persistent=False)

    @property
    def reach(self) -> int:
        """Blocks on either side of its own that a frame looks at."""
        return -(-(self.n_fft - self.before - self.hop) // self.hop)

    def frames(self, length: int) -> int:
        """T of ``length`` samples."""
        return -(-length // self.hop)

    def forward(self, wave: Tensor) -> Tensor:
        """(..., L) -> complex64 (..., F, T); float32 inside, also under autocast."""
        length = wave.shape[-1]
        after = self.frames(length) * self.hop - length + self.n_fft - self.hop - self.before
        with full_precision(wave):
            padded = F.pad(wave.float().reshape(-1, length), (self.before, after))
            spectrum = torch.stft(
                padded, self.n_fft, self.hop, window=self.window, center=False, return_complex=True
            )
        return spectrum.reshape(*wave.shape[:-1], *spectrum.shape[-2:])

    def inverse(self, spectrum: Tensor, length: int) -> Tensor:
        """(..., F, T) complex -> (..., length), ``length`` at most T hop.

        The waveform whose spectrum is nearest in the least-squares sense (Griffin and Lim 1984,
        eq. 6), hence the original where there is one.
        """
        with full_precision(spectrum):
            frames = spectrum.to(torch.complex64).reshape(-1, *spectrum.shape[-2:]).mT
            pieces = torch.fft.irfft(frames, self.n_fft) * self.window
            wave = self._add(pieces) / self._weights(spectrum.shape[-1])
        return wave[:, :length].reshape(*spectrum.shape[:-2], length)

    def _add(self, pieces: Tensor) -> Tensor:
        """Overlapping pieces (N, T, n_fft) at their places, cut to the blocks: (N, T hop)."""
        count, frames, _ = pieces.shape
        parts = -(-self.n_fft // self.hop)
        pieces = F.pad(pieces, (0, parts * self.hop - self.n_fft)).unflatten(2, (parts, self.hop))
        whole = pieces.new_zeros(count, frames + parts, self.hop)
        for part in range(parts):
            whole[:, part : part + frames] += pieces[:, :, part]
        return whole.flatten(1)[:, self.before : self.before + frames * self.hop]

    def _weights(self, frames: int) -> Tensor:
        """The squared windows added up, (T hop,): the same in every block but at the ends."""
        parts = -(-self.n_fft // self.hop)
        few = min(frames, 2 * parts + 1)
        blocks = self._add(self.window.square().expand(1, few, -1)).view(few, self.hop)
        middle = blocks[few // 2].expand(frames - few, -1)
        return torch.cat([blocks[: few // 2], middle, blocks[few // 2 :]]).flatten()
