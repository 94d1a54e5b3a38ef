"""How well an autoencoder brings held-out tunes back, beside the best linear codec of its rate.

    python scripts/codec.py data/shards/scores-… --autoencoder vae

Whole clips of the test split. Linear is the whitened PCA of MDCT frames with as many values a
frame, fitted on training clips: what the spectral autoencoder starts as.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from glissando.build import trained
from glissando.datasets.stream import open_stream
from glissando.losses.reconstruction import STFTDistance
from glissando.metrics.reconstruction import MelError, si_sdr, snr
from glissando.networks.spectral import SpectralAutoencoder
from glissando.representations.autoencoder import Autoencoder


@torch.no_grad()
def measure(codec: Autoencoder, root: Path, clips: int) -> dict[str, float]:
    """Means over clips of the test split; ``snr_total`` is of all their energy together."""
    mel, stft = MelError(codec.sample_rate), STFTDistance(codec.sample_rate)
    rows, noise, signal, took, seconds = [], 0.0, 0.0, 0.0, 0.0
    for batch in open_stream(root, "test", None, 16):
        wave = batch.waveform
        z = codec.encode(wave)
        began = time.perf_counter()
        decoded = codec.decode(z, wave.shape[-1])
        took += time.perf_counter() - began
        seconds += wave.shape[0] * wave.shape[-1] / codec.sample_rate
        noise += float((decoded - wave).square().sum())
        signal += float(wave.square().sum())
        values = (mel(decoded, wave), snr(decoded, wave), si_sdr(decoded, wave))
        distance = stft(decoded, wave).expand(len(wave))
        rows.append(torch.stack([*values, distance], 1))
        if 16 * len(rows) >= clips:
            break
    means = torch.cat(rows).mean(0).tolist()
    named = dict(zip(("mel", "snr", "si_sdr", "mrstft"), means, strict=True))
    total = 10 * torch.log10(torch.tensor(signal / noise)).item()
    return {**named, "snr_total": total, "decode_x_real_time": seconds / took}


def linear(like: Autoencoder, root: Path) -> Autoencoder:
    """The linear codec with the channels and the hop of ``like``."""
    network = SpectralAutoencoder(
        like.channels, like.audio_channels, like.hop, encoder_depth=0, decoder_depth=0
    )
    stream = open_stream(root, "train", None, 16)
    codec = Autoencoder(network, like.sample_rate)
    codec.warm_start(batch.waveform for batch, _ in zip(stream, range(60), strict=False))
    return codec


def main() -> None:
    """Prints one JSON line a codec."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="prepared scores (data/shards/scores-…)")
    parser.add_argument("--autoencoder", default="vae")
    parser.add_argument("--clips", type=int, default=300, help="clips of the test split")
    given = parser.parse_args()
    codec = trained(given.autoencoder).eval()
    for name, each in (("linear", linear(codec, given.data)), (given.autoencoder, codec)):
        figures = measure(each.eval(), given.data, given.clips)
        result = {key: round(value, 3) for key, value in figures.items()}
        print(json.dumps({"codec": name, **result}))


if __name__ == "__main__":
    main()
