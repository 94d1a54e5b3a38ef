"""The spectral autoencoder: a linear transform codec that learns what the line cannot do.

An orthonormal MDCT and principal components, of all frames or of each kind of them, make the best
codec of a given rate that is known in closed form (``networks/transform.py``). Both halves of the
network start as exactly that codec, and ConvNeXt branches, zero at the start, learn the rest. So
the first training step already has that codec's sound, which an ordinary initialization needs
thousands of steps to reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from glissando.errors import UserError
from glissando.networks.autoencoder import AudioAutoencoder
from glissando.networks.bottlenecks.base import Bottleneck
from glissando.networks.bottlenecks.kl import KL
from glissando.networks.convnext import Backbone
from glissando.networks.mdct import MDCT
from glissando.networks.precision import full_precision
from glissando.networks.transform import Components, LocalComponents, Transform


class SpectralAutoencoder(AudioAutoencoder):
    """Waveform (B, A, L) <-> latent (B, C, T) with T = ceil(L / hop) + 1.

    Args:
        channels: latent channels C.
        audio_channels: A.
        hop: samples per latent frame; the MDCT has ``hop`` bands.
        encoder_width, encoder_depth, decoder_width, decoder_depth: of the ConvNeXt branches.
        posterior_std: standard deviation of q(z | x) at the start.
        bits: channels of C that say which of ``2^bits`` linear codecs a frame has; 0: one for all.
        rank: components that these codecs work in.
        bottleneck: latent channels -> bottleneck.

    Raises UserError where C has no room for ``bits``, or ``rank`` no room for C.
    """

    def __init__(
        self,
        channels: int = 64,
        audio_channels: int = 1,
        hop: int = 512,
        encoder_width: int = 192,
        encoder_depth: int = 4,
        decoder_width: int = 320,
        decoder_depth: int = 6,
        expansion: int = 3,
        posterior_std: float = 0.05,
        bits: int = 0,
        rank: int = 320,
        bottleneck: Callable[[int], Bottleneck] = KL,
    ) -> None:
        super().__init__(channels, audio_channels, hop, bottleneck(channels))
        bands = hop * audio_channels
        self.mdct = MDCT(hop)
        self.register_buffer("band_std", torch.ones(bands, 1))
        if not 0 <= bits < channels or (bits and rank < channels - bits):
            raise UserError(
                f"model.bits={bits} and model.rank={rank} must leave room for model.channels="
                f"{channels}: from 0 on and below it, and no less than the rest of it"
            )
        self.transform: Transform = (
            LocalComponents(bands, channels, bits, min(rank, bands))
            if bits
            else Components(bands, channels)
        )

        # A frame's bands are already wide: one tap into the encoder, context comes in its blocks.
        self.encoder = Backbone(2 * bands, encoder_width, encoder_depth, expansion, kernel=1)
        self.encoder_head = nn.Linear(encoder_width, self.bottleneck.inputs)
        self.decoder = Backbone(channels, decoder_width, decoder_depth, expansion)
        self.decoder_head = nn.Linear(decoder_width, 3 * bands)
        # The branches add nothing at the start: the network is then exactly the linear codec.
        for head in (self.encoder_head, self.decoder_head):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        # softplus^-1 of the wanted posterior deviation, and a quiet start for new partials.
        self.encoder_head.bias.data[channels:] = math.log(math.expm1(posterior_std))
        self.decoder_head.bias.data[bands : 2 * bands] = -1.0

    band_std: Tensor

    def frames(self, length: int) -> int:
        return self.mdct.frames(length)

    def span(self, frames: int) -> int:
        return (frames - 1) * self.hop

    def raw(self, wave: Tensor) -> Tensor:
        # The linear codec carries the waveform: bf16 would cap it near 45 dB for a gain of nothing.
        with full_precision(wave):
            scaled = self.mdct(wave.float()).flatten(1, 2) / self.band_std
            linear = self.transform.analyse(scaled.mT).mT
        magnitude = scaled.abs()
        # Two views that a linear layer lacks: companded values keep the sign, log levels the
        # quiet partials; floored 80 dB below a band's typical level so that silence stays finite.
        companded = scaled * (magnitude + 1e-8).rsqrt()  # sign * sqrt, differentiable at 0
        features = torch.cat([companded, (magnitude + 1e-4).log() / 4], 1)
        learned = self.encoder_head(self.encoder(features).mT).mT.float()
        mean, rest = learned[:, : self.channels], learned[:, self.channels :]
        return torch.cat([linear + mean, rest], dim=1)

    def decode(self, z: Tensor, length: int) -> Tensor:
        # Frame by frame in memory, as a linear layer and the transforms have it: strided, this
        # head's own functions take three times as long.
        gain, level, phase = self.decoder_head(self.decoder(z).mT).float().chunk(3, dim=-1)
        # exp(level) * sin(phase) spans the dynamic range of partials (as Vocos' head does) and is
        # zero at the start with a gradient.
        added = level.clamp(max=4).exp() * phase.sin()
        with full_precision(z):
            linear = self.transform.synthesise(z.float().mT)
            spectrum = self.band_std[:, 0] * (linear * (1 + gain) + added)
            spectrum = spectrum.unflatten(-1, (self.audio_channels, self.hop))  # (B, T, A, hop)
            return self.mdct.inverse(spectrum.permute(0, 2, 3, 1), length)

    @torch.no_grad()
    def warm_start(self, maps: Iterable[Tensor]) -> None:
        """Sets the linear codec to what is best for (B, A, 1, L) waveforms, all of one length.

        Raises UserError when there are fewer frames than bands to estimate from.
        """
        some: list[Tensor] = []
        count = 0
        for wave in maps:
            some.append(self.mdct(wave.squeeze(2).to(self.band_std)).flatten(1, 2).mT)
            count += some[-1].shape[0] * some[-1].shape[1]
            if count >= self.transform.frames_wanted:
                break
        if count < len(self.band_std):
            raise UserError(
                f"{count} frames are too few to begin with the components of {len(self.band_std)} "
                "bands: raise loader.batch_size or loader.seconds, or lower model.hop"
            )
        frames = torch.cat(some)
        band_std = frames.square().mean((0, 1), dtype=torch.float64).clamp_min(1e-10).sqrt()
        self.band_std.copy_(band_std[:, None])
        scale = self.band_std[:, 0]
        self.transform.fit(frames / scale, scale)
