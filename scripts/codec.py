"""How well an autoencoder brings held-out tunes back, beside linear codecs of its rate.

    python scripts/codec.py data/shards/scores-… --autoencoder vae

Whole clips of the test split. The linear codecs, one for all frames or one for each of 2^bits kinds
of them, have as many values a frame and are fitted on training clips: what a spectral autoencoder
starts as.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from glissando.build import trained
from glissando.datasets.stream import open_stream
from glissando.losses.reconstruction import STFTDistance
from glissando.metrics.reconstruction import MelError, si_sdr, snr
from glissando.networks.fold import fold
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


def untrained(like: Autoencoder, root: Path, bits: int, rank: int = 320) -> Autoencoder:
    """What a spectral autoencoder with the channels and the hop of ``like`` starts as."""
    network = SpectralAutoencoder(
        like.channels, like.audio_channels, like.hop, encoder_depth=0, decoder_depth=0,
        bits=bits, rank=rank,
    )  # fmt: skip
    codec = Autoencoder(network, like.sample_rate)
    codec.warm_start(pieces(root, like))
    return codec


def pieces(root: Path, like: Autoencoder) -> Iterator[Tensor]:
    """Crops of training clips, as long as training takes them, again and again."""
    length = round(1.5 * like.sample_rate)
    while True:
        for batch in open_stream(root, "train", None, 16):
            yield from batch.waveform.split(length, -1)[:-1]


def main() -> None:
    """Prints one JSON line a codec."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="prepared scores (data/shards/scores-…)")
    parser.add_argument("--autoencoder", default="vae")
    parser.add_argument("--clips", type=int, default=300, help="clips of the test split")
    parser.add_argument("--bits", type=int, default=4, help="log2 of the number of linear codecs")
    given = parser.parse_args()
    codec = fold(trained(given.autoencoder).eval())
    rows = {
        "one linear codec": untrained(codec, given.data, 0),
        f"{2**given.bits} linear codecs": untrained(codec, given.data, given.bits),
        given.autoencoder: codec,
    }
    for name, each in rows.items():
        figures = measure(each.eval(), given.data, given.clips)
        result = {key: round(value, 3) for key, value in figures.items()}
        print(json.dumps({"codec": name, **result}))


if __name__ == "__main__":
    main()
