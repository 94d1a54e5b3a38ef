"""Do clips follow the prompt's instrument? A classifier's answer, with its own ceiling beside it.

    python scripts/adherence.py data/shards/scores-… --ckpt demo --samples 64

A logistic regression on log-mel statistics learns the instruments from the training split, every
clip passed through the model's own autoencoder first, so that it judges timbre and not the codec.
Its accuracy on the test split (tunes it never heard) is the ceiling; chance is one over the number
of instruments. Then the model plays `samples` prompts, instruments in turn.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

import glissando
from glissando.datasets.stream import open_stream
from glissando.mel import MelSpectrogram
from glissando.progress import ERR, Bar
from glissando.representations.base import Representation

KINDS = ("a slow air", "a lively jig", "a tune", "a reel")


def features(mel: MelSpectrogram, wave: Tensor) -> np.ndarray:
    """(B, A, L) -> (B, 5 * bands): level-free statistics of the log-mel spectrogram over time."""
    log = mel.log(wave.mean(1, keepdim=True))[:, 0]  # (B, bands, T)
    log = log - log.amax((1, 2), keepdim=True)
    log = log.clamp_min(-9)
    change = log.diff(dim=2)
    parts = (log.mean(2), log.std(2), log.amax(2), change.clamp_min(0).mean(2), change.std(2))
    return torch.cat(parts, 1).numpy()


@torch.no_grad()
def listen(
    root: Path, split: str, limit: int, mel: MelSpectrogram, codec: Representation
) -> tuple[np.ndarray, np.ndarray]:
    """Features and instruments of up to ``limit`` clips of a split, heard through the codec."""
    rows, names = [], []
    with Bar(f"listening to {split}", console=ERR) as bar:
        for batch in open_stream(root, split, None, 16, train=False):
            wave = codec.decode(codec.encode(batch.waveform), batch.waveform.shape[-1])
            rows.append(features(mel, wave))
            names += [attributes["instrument"] for attributes in batch.attributes]
            bar.update(len(names))
            if len(names) >= limit:
                break
    return np.concatenate(rows), np.array(names)


def main() -> None:
    """Prints a table and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="prepared scores (data/shards/scores-…)")
    parser.add_argument("--ckpt", default="demo")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--clips", type=int, default=2400, help="training clips to listen to")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=None, help="JSON of the result")
    given = parser.parse_args()

    model = glissando.load(given.ckpt)
    codec = model.representation
    mel = MelSpectrogram(codec.sample_rate)
    known, labels = listen(given.data, "train", given.clips, mel, codec)
    judge = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    judge.fit(known, labels)
    held, truth = listen(given.data, "test", 10**9, mel, codec)
    ceiling = float((judge.predict(held) == truth).mean())

    instruments = sorted(set(labels))
    asked = [instruments[i % len(instruments)] for i in range(given.samples)]
    prompts = [f"{KINDS[i % len(KINDS)]} on {name}" for i, name in enumerate(asked)]
    with Bar("sampling", console=ERR) as bar:
        clips = model.generate(prompts, seed=given.seed, progress=bar.update)
    heard = judge.predict(np.concatenate([features(mel, clip.wave[None]) for clip in clips]))
    right = heard == np.array(asked)
    silent = sum(float(clip.wave.abs().max()) < 0.01 for clip in clips)
    result = {
        "ckpt": given.ckpt,
        "samples": given.samples,
        "right": int(right.sum()),
        "accuracy": float(right.mean()),
        "chance": 1 / len(instruments),
        "ceiling_on_held_out_recordings": ceiling,
        "held_out_clips": len(truth),
        "silent_clips": silent,
        "by_instrument": {
            name: f"{int(right[np.array(asked) == name].sum())}/{asked.count(name)}"
            for name in instruments
        },
        "confusions": Counter(
            f"{a} heard as {h}" for a, h in zip(asked, heard, strict=True) if a != h
        ).most_common(8),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
