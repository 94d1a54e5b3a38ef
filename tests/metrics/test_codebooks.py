from __future__ import annotations

import pytest
import torch

from glissando.metrics.codebooks import counts, kilobits, perplexity


def test_counts_are_those_of_each_book() -> None:
    codes = torch.tensor([[[0, 1, 1], [3, 3, 3]], [[1, 1, 0], [0, 3, 3]]])  # (B, K, T)
    assert counts(codes, (2, 4)).tolist() == [[2, 4, 0, 0], [1, 0, 0, 5]]


def test_perplexity_is_the_number_of_equally_frequent_entries() -> None:
    found = perplexity(torch.tensor([[5, 5, 5, 5], [9, 0, 0, 0], [2, 2, 0, 0], [1, 3, 0, 0]]))
    expected = torch.tensor([4, 1, 2, 4 / 3**0.75], dtype=torch.float64)
    torch.testing.assert_close(found, expected)


def test_dac_has_8_kilobits_and_encodec_6() -> None:
    """Published: 9 books of 10 bits, 44.1 kHz over 512; 8 of 10 bits, 24 kHz over 320."""
    assert kilobits((1024,) * 9, 44100 / 512) == pytest.approx(7.75, abs=0.01)
    assert kilobits((1024,) * 8, 24000 / 320) == 6.0
