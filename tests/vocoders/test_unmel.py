from __future__ import annotations

import pytest
import torch

from glissando.mel import mel_filters
from glissando.vocoders.unmel import unmel


def divergence(mel: torch.Tensor, other: torch.Tensor) -> float:
    return float((mel * (mel / other).log() - mel + other).sum())


def magnitudes(bins: int) -> torch.Tensor:
    return torch.rand(2, bins, 5, generator=torch.Generator().manual_seed(0)) + 0.1


def test_as_many_bands_as_bins_leave_nothing_open() -> None:
    chance = torch.Generator().manual_seed(0)
    filters = 0.05 * torch.rand(9, 9, generator=chance) + torch.eye(9)
    x = magnitudes(9)
    torch.testing.assert_close(unmel(filters @ x, filters, 400), x, atol=1e-3, rtol=1e-3)


def test_every_step_is_nearer() -> None:
    """Theorem 2 of Lee & Seung."""
    filters = mel_filters(22050, 512, 60)
    filters = filters[filters.sum(1) > 0]
    mel = filters @ magnitudes(257)
    steps = [divergence(mel, filters @ unmel(mel, filters, n)) for n in (1, 2, 5, 20, 60)]
    assert steps == sorted(steps, reverse=True)
    assert steps[3] < 1e-2 * steps[0]


def test_its_fixed_point_is_that_of_the_divergence() -> None:
    """Karush-Kuhn-Tucker: no slope where a bin is above 0, and none downwards where it is 0."""
    chance = torch.Generator().manual_seed(1)
    filters, mel = torch.rand(6, 3, generator=chance), torch.rand(6, 1, generator=chance) ** 4
    x = unmel(mel, filters, 5000).requires_grad_()
    fitted = filters @ x
    slope = torch.autograd.grad((mel * (mel / fitted).log() - mel + fitted).sum(), x)[0]
    assert (x * slope).abs().max() < 1e-4
    assert slope.min() > -1e-4


def test_bins_that_no_band_covers_are_silent() -> None:
    filters = mel_filters(22050, 512, 20, 500.0, 4000.0)
    x = unmel(filters @ magnitudes(257), filters)
    assert (x[:, filters.sum(0) == 0] == 0).all()


@pytest.mark.filterwarnings("error")
def test_bands_that_cover_nothing_do_no_harm() -> None:
    filters = mel_filters(22050, 256, 80)
    assert (filters.sum(1) == 0).any()
    x = unmel((filters @ magnitudes(129)).clamp_min(1e-5), filters)
    assert x.isfinite().all()
    assert (x >= 0).all()


def test_a_sliver_of_a_bin_does_not_make_it_loud() -> None:
    """Bands of 75 Hz, bins of 375: rounding leaves one band 1e-15 of a bin, and a floor of 1e-5."""
    filters = mel_filters(96000, 256, 40, 0.0, 3000.0)
    weight = filters.sum(1)
    assert 0 < weight[weight > 0].min() < 1e-3 * weight.max()
    x = magnitudes(129)
    again = unmel((filters @ x).clamp_min(1e-5), filters)
    assert again.max() < 10 * x.max()
