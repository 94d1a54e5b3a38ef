"""What a training step of the spectral VAE spends its time on, one thread.

    python benchmarks/losses.py

Forward and backward of the network and of each loss at the training shape (8 x 1.5 s at 22.05 kHz),
and auraloss' own STFT loss beside ours in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from auraloss.freq import MultiResolutionSTFTLoss

from glissando.losses.reconstruction import MelDistance, STFTDistance, WaveDistance
from glissando.networks.spectral import SpectralAutoencoder

SIZES = (2048, 1024, 512, 256, 128)


def milliseconds(work: Callable[[], object], runs: int = 7) -> float:
    """The median of ``runs`` after one warm-up."""
    work()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1e3 * sorted(times)[runs // 2]


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    network = SpectralAutoencoder()
    wave = 0.1 * torch.randn(8, 1, 33075)
    decoded = (0.1 * torch.randn_like(wave)).requires_grad_()

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = network.decode(network.encode(wave).sample(), wave.shape[-1])
        y.square().mean().backward()

    theirs = MultiResolutionSTFTLoss(list(SIZES), [size // 4 for size in SIZES], list(SIZES))
    ours = STFTDistance(22050, SIZES)
    mel, plain = MelDistance(22050), WaveDistance()
    for name, work in {
        "network, bf16": step,
        "STFT loss, auraloss as it is": lambda: theirs(decoded, wave).backward(),
        "STFT loss, without the phase": lambda: ours(decoded, wave).backward(),
        "mel loss": lambda: mel(decoded, wave).backward(),
        "waveform loss": lambda: plain(decoded, wave).backward(),
    }.items():
        print(f"{name:30s} {milliseconds(work):7.0f} ms")


if __name__ == "__main__":
    main()
