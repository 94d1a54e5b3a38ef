from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch

from glissando.networks.mdct import MDCT


def windowed(hop: int, wave: np.ndarray) -> np.ndarray:
    """Sine-windowed frames (T, 2 hop) of a wave padded as MDCT's docstring says, float64."""
    frames = -(-len(wave) // hop) + 1
    padded = np.zeros((frames + 1) * hop)
    padded[hop : hop + len(wave)] = wave
    window = np.sin(np.pi / (2 * hop) * (np.arange(2 * hop) + 0.5))
    return np.stack([padded[t * hop : (t + 2) * hop] * window for t in range(frames)])


def by_the_sum(hop: int, wave: np.ndarray) -> np.ndarray:
    """Princen, Johnson and Bradley's sum, scaled to be orthonormal: (hop, T)."""
    k, n = np.arange(hop)[:, None], np.arange(2 * hop)[None]
    kernel = np.cos(np.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5))
    return np.sqrt(2 / hop) * kernel @ windowed(hop, wave).T


def by_dct4(hop: int, wave: np.ndarray) -> np.ndarray:
    """The textbook fold of (a, b, c, d) into (-c_r - d, a - b_r), then an orthonormal DCT-IV."""
    a, b, c, d = np.split(windowed(hop, wave), 4, axis=1)
    folded = np.concatenate([-c[:, ::-1] - d, a - b[:, ::-1]], axis=1)
    return scipy.fft.dct(folded, type=4, norm="ortho", axis=1).T


@pytest.mark.parametrize("length", [1, 15, 16, 17, 100, 257])
@pytest.mark.parametrize("hop", [4, 16])
def test_any_length_comes_back(hop: int, length: int) -> None:
    mdct = MDCT(hop)
    wave = torch.randn(2, 3, length)
    spectrum = mdct(wave)
    assert spectrum.shape == (2, 3, hop, mdct.frames(length))
    torch.testing.assert_close(mdct.inverse(spectrum, length), wave, atol=2e-6, rtol=0)


@pytest.mark.parametrize("length", [31, 64])
@pytest.mark.parametrize("closed_form", [by_the_sum, by_dct4])
def test_equals_the_closed_form(closed_form, length: int) -> None:
    wave = np.random.default_rng(0).normal(size=length)
    spectrum = MDCT(8)(torch.from_numpy(wave).float())
    np.testing.assert_allclose(spectrum.numpy(), closed_form(8, wave), atol=2e-6)


def test_is_orthonormal() -> None:
    hop, length = 8, 40
    columns = MDCT(hop)(torch.eye(length)).flatten(1)  # the transform of each unit impulse
    torch.testing.assert_close(columns @ columns.mT, torch.eye(length), atol=1e-6, rtol=0)


def test_inverse_is_the_transpose() -> None:
    """For any coefficients, not only those of a wave: so gradients through both are each other."""
    mdct, wave = MDCT(8), torch.randn(40)
    coefficients = torch.randn(8, mdct.frames(40))
    forward = (mdct(wave) * coefficients).sum()
    backward = (wave * mdct.inverse(coefficients, 40)).sum()
    torch.testing.assert_close(forward, backward, atol=1e-5, rtol=1e-5)


def test_basis_is_no_weight() -> None:
    assert MDCT(8).state_dict() == {}
