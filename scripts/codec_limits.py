"""What a codec of a given rate could reach on this data, by how freely it may choose what to keep.

    python scripts/codec_limits.py data/shards/scores-…

One value in eight of the MDCT coefficients is kept, exactly. *Components*: the best fixed linear
codec, principal components of the frames. *Bands*: the same bands always. Then the bands with the
most energy in a clip, in blocks of 0.37 s, in each frame. The last three tell nobody which bands
they chose, so they bound what an encoder that adapts could reach; the first two are codecs.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import torch
from torch import Tensor

from glissando.datasets.stream import open_stream
from glissando.metrics.reconstruction import MelError, snr
from glissando.networks.mdct import MDCT


def take(root: Path, split: str, clips: int) -> Tensor:
    """(B, 1, L) waveforms of a split."""
    batches = itertools.islice(open_stream(root, split, None, 16), -(-clips // 16))
    return torch.cat([batch.waveform for batch in batches])


def strongest(frames: Tensor, keep: int, block: int) -> Tensor:
    """``frames`` (B, T, bands) with all but the ``keep`` strongest bands of each block zeroed."""
    batch, time, bands = frames.shape
    whole = torch.nn.functional.pad(frames, (0, 0, 0, -time % block)).unflatten(1, (-1, block))
    chosen = whole.square().sum(2, keepdim=True).topk(keep, dim=-1).indices
    mask = torch.zeros(batch, whole.shape[1], 1, bands).scatter(-1, chosen, 1.0)
    return (whole * mask).flatten(1, 2)[:, :time]


@torch.no_grad()
def limits(train: Tensor, test: Tensor, hop: int, rate: int) -> dict[str, Tensor]:
    """Decoded ``test`` (B, 1, L) of every codec at this hop."""
    mdct, keep = MDCT(hop), hop // 8
    seen = mdct(train).squeeze(1).mT.flatten(0, 1).double()
    covariance = seen.mT @ seen / len(seen)
    components = torch.linalg.eigh(covariance).eigenvectors[:, -keep:].float()
    fixed = torch.zeros(hop)
    fixed[covariance.diagonal().topk(keep).indices] = 1
    frames = mdct(test).squeeze(1).mT
    kept = {
        "components": frames @ components @ components.mT,
        "bands": frames * fixed,
        "bands of the clip": strongest(frames, keep, frames.shape[1]),
        "bands of 0.37 s": strongest(frames, keep, max(1, round(0.37 * rate / hop))),
        "bands of the frame": strongest(frames, keep, 1),
    }
    return {name: mdct.inverse(f.mT[:, None], test.shape[-1]) for name, f in kept.items()}


def main() -> None:
    """Prints a Markdown table: mean SNR in dB, and mel distance in brackets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="prepared scores (data/shards/scores-…)")
    parser.add_argument("--clips", type=int, default=192, help="clips of the test split")
    parser.add_argument("--rate", type=int, default=22050, help="their sample rate in Hz")
    given = parser.parse_args()
    train, test = take(given.data, "train", 960), take(given.data, "test", given.clips)
    mel = MelError(given.rate)
    for row, hop in enumerate((512, 1024, 2048)):
        decoded = limits(train, test, hop, given.rate)
        if row == 0:
            print("| values a frame x frames a second | " + " | ".join(decoded) + " |")
            print("|---" * (1 + len(decoded)) + "|")
        cells = [f"{snr(y, test).mean():.1f} ({mel(y, test).mean():.2f})" for y in decoded.values()]
        print(f"| {hop // 8} x {given.rate / hop:.1f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
