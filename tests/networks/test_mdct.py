from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch

from glissando.errors import UserError
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


def test_in_double_precision_it_is_the_closed_form_to_its_digits() -> None:
    wave = np.random.default_rng(0).normal(size=5000)
    mdct = MDCT(512)
    # What the module itself holds is of single precision.
    np.testing.assert_allclose(
        mdct(torch.from_numpy(wave)).numpy(), by_dct4(512, wave), atol=1e-6, rtol=0
    )


def test_gradients_pass_through_both_ways() -> None:
    mdct = MDCT(4).double()
    wave = torch.randn(11, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mdct, wave)
    coefficients = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: mdct.inverse(x, 11), coefficients)


def test_bfloat16_is_transformed_in_single_precision() -> None:
    wave = torch.randn(100).bfloat16()
    spectrum = MDCT(8)(wave)
    assert spectrum.dtype == torch.bfloat16
    torch.testing.assert_close(spectrum, MDCT(8)(wave.float()).bfloat16(), atol=0.05, rtol=0.02)


def test_an_odd_hop_is_refused() -> None:
    with pytest.raises(UserError, match=r"model.hop=7 must be even"):
        MDCT(7)


def test_it_has_no_weights() -> None:
    assert MDCT(8).state_dict() == {}
