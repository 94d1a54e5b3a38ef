"""Curves over time: each latent frame holds the mean of what it covers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glissando.conditioners import Conditioners, LocalConditioner
from glissando.datasets.samples import placed
from glissando.errors import UserError


def _make(rate: float, latent_rate: float, dim: int = 2, **options) -> LocalConditioner:
    conditioner = LocalConditioner("melody", dim, rate, **options)
    conditioner.align(latent_rate)
    return conditioner


@pytest.mark.parametrize(("rate", "latent_rate"), [(100, 43.066), (10, 43.066), (50, 25), (7, 7)])
def test_frames_are_means_over_time(rate, latent_rate):
    """Against brute force: sample the piecewise constant curve densely, average per frame."""
    curve = np.random.default_rng(0).standard_normal((2, int(3 * rate)))
    frames, dense = int(2.9 * latent_rate), 2000
    value = _make(rate, latent_rate)([{"melody": curve}], frames)["melody"].value
    assert value.shape == (1, 2, 1, frames)
    times = (np.arange(frames * dense) + 0.5) / dense / latent_rate
    means = curve[:, (times * rate).astype(int)].reshape(2, frames, dense).mean(2)
    np.testing.assert_allclose(value[0, :, 0], means, atol=5e-3)


def test_frames_that_lie_earlier_cover_an_earlier_part():
    """Half a frame before their blocks: a frame has the end of one column and half of the next."""
    conditioner = LocalConditioner("melody", 1, 10)
    conditioner.align(10, lead=0.5)
    value = conditioner([{"melody": [1.0, 3.0, 7.0]}], 5)["melody"].value
    assert value.flatten().tolist() == pytest.approx([1, 2, 5, 7, 0])


def test_the_same_rate_is_the_identity():
    curve = torch.arange(12.0).view(2, 6)
    value = _make(20, 20)([{"melody": curve}], 6)["melody"].value
    torch.testing.assert_close(value[0, :, 0], curve)


@pytest.mark.parametrize(("rate", "latent_rate"), [(100, 43.066), (10, 43.066), (7, 7)])
def test_a_crop_gets_its_own_part_of_the_curve(rate, latent_rate):
    """As the whole clip's frames, cropped; the curve comes with the stored clip."""
    curve = np.random.default_rng(0).standard_normal((2, int(3 * rate)))
    frames, conditioner = int(2.9 * latent_rate), _make(rate, latent_rate)
    whole = conditioner([{"melody": curve}], frames)["melody"].value
    for start, length in ((0, 5), (4, 9), (frames - 3, 3)):
        crop = placed({"melody": curve, "seconds_start": 20.0}, start / latent_rate)
        value = conditioner([crop], length)["melody"].value
        torch.testing.assert_close(value, whole[..., start : start + length])
    after = conditioner([placed({"melody": curve}, 3.5)], 4)["melody"].value
    assert not after.any()  # the curve has ended: the absent value


def test_after_the_end_there_is_the_absent_value():
    conditioner = _make(10, 10, dim=1, unconditional="learned")
    short, long = torch.ones(4), torch.full((8,), 2.0)
    value = conditioner([{"melody": short}, {"melody": long}, {}], 10)["melody"].value[:, 0, 0]
    absent = conditioner.absent_vector.detach().item()
    assert value[0].tolist() == pytest.approx([1] * 4 + [absent] * 6)
    assert value[1].tolist() == pytest.approx([2] * 8 + [absent] * 2)
    assert value[2].tolist() == pytest.approx([absent] * 10)


def test_the_longest_decides_without_a_length():
    value = _make(10, 5, dim=1)([{"melody": [1.0] * 7}, {"melody": [1.0] * 3}])["melody"].value
    assert value.shape == (2, 1, 1, 4)
    assert value[1, 0, 0].tolist() == [1, 1, 0, 0]


def test_null_has_the_length_of_the_condition():
    conditioners = Conditioners([LocalConditioner("melody", 2, 10)]).align(10)
    condition = conditioners([{"melody": torch.ones(2, 5)}] * 3, frames=9)
    null = conditioners.null(3, like=condition)
    assert null["melody"].value.shape == (3, 2, 1, 9)
    assert condition.cat(null).batch == 6
    assert conditioners([{}], frames=9)["melody"].value.shape == (1, 2, 1, 9)


def test_it_must_be_aligned_first():
    with pytest.raises(ValueError, match="align"):
        LocalConditioner("melody", 1, 10)([{"melody": [1.0]}], 4)


@pytest.mark.parametrize("value", [torch.ones(3, 5), torch.ones(2, 0), torch.ones(1, 2, 5)])
def test_a_wrong_shape_is_refused(value):
    with pytest.raises(UserError, match=r"melody has shape .* \(2, columns\)"):
        _make(10, 10)([{"melody": value}])


def test_what_is_not_an_array_is_refused():
    with pytest.raises(UserError, match="not an array"):
        _make(10, 10)([{"melody": "do re mi"}])
    with pytest.raises(UserError, match="rate"):
        LocalConditioner("melody", 1, 0)


def test_centre_scale_and_where_it_is_known():
    conditioner = _make(10, 10, dim=1, center=-30.0, scale=20.0, known=True)
    assert conditioner.sizes["melody"].dim == 2
    value = conditioner([{"melody": [-30.0, 10.0]}, {}], 4)["melody"].value[:, :, 0]
    assert value[0].tolist() == [[0, 2, 0, 0], [1, 1, 0, 0]]
    assert not value[1].any()


def test_part_of_a_curve_is_hidden_in_training_alone():
    conditioner = _make(10, 10, dim=1, known=True, mask=0.5)
    rows = [{"melody": torch.ones(50)}] * 400
    torch.manual_seed(0)
    value = conditioner(rows, 50)["melody"].value[:, :, 0]
    assert torch.equal(value[:, 0], value[:, 1])
    hidden = 1 - value[:, 1]
    some = hidden.sum(1) > 0
    assert abs(some.float().mean() - 0.5) < 0.08  # 3.2 standard errors
    share = hidden[some].mean(1)
    assert share.min() >= 0.09
    assert share.max() <= 0.91
    assert abs(share.mean() - 0.5) < 0.06
    assert (hidden.diff(dim=1).abs().sum(1) <= 2).all()  # one stretch
    assert 0 < hidden[some][:, 0].mean() < 0.2 < hidden[some][:, 25].mean() < 0.9
    torch.manual_seed(0)
    assert torch.equal(conditioner(rows, 50)["melody"].value[:, :, 0], value)
    assert conditioner.eval()(rows, 50)["melody"].value.all()


@pytest.mark.parametrize(("option", "value"), [("mask", 1.5), ("scale", 0)])
def test_a_wrong_option_is_refused(option, value):
    with pytest.raises(UserError, match=rf"conditioner\.melody\.{option}={value} must be"):
        _make(10, 10, **{option: value})
