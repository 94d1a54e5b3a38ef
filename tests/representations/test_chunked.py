from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from forms import FIXED, LEARNED, oobleck, spectral, spectrogram
from torch import nn

from glissando.representations.chunked import reach_of


class Codec(nn.Module):
    """Blocks of 10 samples -> a layer -> blocks."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def encode(self, wave: torch.Tensor) -> torch.Tensor:
        return self.layer(wave.unflatten(-1, (-1, 10)).mean(-1)).unsqueeze(2)

    def decode(self, z: torch.Tensor, length: int) -> torch.Tensor:
        return z[:, :, 0].repeat_interleave(10, -1)[..., :length]


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(-1, keepdim=True)


@pytest.mark.parametrize(("layer", "reach"), [
    (nn.Identity(), 0),
    (nn.Conv1d(1, 1, 5, padding=2), 2),
    (nn.Conv1d(1, 1, 241, padding=120), 120),  # further than the first guess
    (nn.Sequential(nn.ReLU(), nn.Conv1d(1, 4, 3, padding=1), nn.Conv1d(4, 1, 3, padding=1)), 2),
    (Mean(), None),
])  # fmt: skip
def test_the_reach_of_known_layers(layer: nn.Module, reach: int | None) -> None:
    codec = Codec(layer)
    nn.init.zeros_(next(codec.parameters(), torch.zeros(1)))  # weights do not matter
    assert reach_of(codec.encode, codec.decode, torch.zeros(1, 1, 1), 10) == reach


def test_the_reach_of_autoencoders() -> None:
    # Spectral: MDCT 1, embedding 3, two blocks of 3. Oobleck: see its strides 3 and 8.
    assert spectral(1).reach == 1 + 3 + 2 * 3
    assert 4 <= (oobleck(1).reach or 0) <= 12


@pytest.mark.parametrize("name", FIXED)
def test_the_reach_that_fixed_ones_state_holds(name: str) -> None:
    form = FIXED[name](1)
    found = reach_of(form.encode_piece, form.decode_piece, torch.zeros(1, 1, 1), form.hop)
    assert found is not None
    assert form.reach is not None
    assert found <= form.reach <= found + 5


def test_griffin_lim_reaches_as_far_as_it_iterates() -> None:
    assert spectrogram(1).reach == 5 * 3


LONG = """
import resource, sys, torch
sys.path[:0] = sys.argv[1].split(":")
from forms import FIXED, LEARNED
torch.set_num_threads(1)
torch.set_grad_enabled(False)
rate, minutes = 8000, 10
form = {**FIXED, **LEARNED}[sys.argv[2]](2)
wave = torch.zeros(1, 2, minutes * 60 * rate)
wave[..., 1::100] = 0.5
length = wave.shape[-1]
form.decode(form.encode(wave[..., :9000]), 9000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
z = form.encode(wave)
again = form.decode(z, length)
assert again.shape == wave.shape
assert again.isfinite().all()
more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
held = sum(each.numel() * 4 for each in (z, again))
print(more - held)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FIXED, *LEARNED])
def test_ten_minutes_take_no_more_memory_than_a_chunk(name: str) -> None:
    command = [sys.executable, "-c", LONG, ":".join(sys.path), name]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(said.stdout) < 300e6, said.stdout
