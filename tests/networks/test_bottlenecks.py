"""Bottlenecks against brute force and closed forms."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from glissando.errors import UserError
from glissando.networks.bottlenecks.fsq import FSQ
from glissando.networks.bottlenecks.kl import KL
from glissando.networks.bottlenecks.rvq import RVQ
from glissando.networks.bottlenecks.tanh import Tanh


def test_kl_reads_mean_and_deviation() -> None:
    raw = torch.randn(2, 6, 1, 5)
    coded = KL(3)(raw)
    torch.testing.assert_close(coded.mean, raw[:, :3])
    torch.testing.assert_close(coded.std, F.softplus(raw[:, 3:]) + 1e-4)
    torch.testing.assert_close(coded.penalties()["kl"], coded.kl())


def test_tanh_is_bounded_and_draws_nothing() -> None:
    raw = 9 * torch.randn(2, 3, 2, 5)
    coded = Tanh(3)(raw)
    torch.testing.assert_close(coded.sample(), raw.tanh(), atol=0, rtol=0)
    torch.testing.assert_close(Tanh(3).settle(raw), raw.clamp(-1, 1), atol=0, rtol=0)
    assert coded.penalties() == {}


@pytest.mark.parametrize("levels", [(3, 4), (2, 2, 2), (5,), (8, 5, 5, 5)])
def test_fsq_codes_count_every_combination_once(levels: tuple[int, ...]) -> None:
    """Inputs at the middle of every cell: all prod(levels) codes, each with its own grid point."""
    form = FSQ(len(levels), levels)
    middles = []
    for number in levels:
        half, offset = (number - 1) * 1.001 / 2, 0.5 if number % 2 == 0 else 0.0
        digit = torch.arange(number, dtype=torch.float64) - number // 2
        inside = ((digit + offset) / half).clamp(-0.9999, 0.9999)
        middles.append((inside.atanh() - torch.tensor(offset / half).double().atanh()).tolist())
    grid = torch.tensor(list(product(*middles))).float()  # (n, channels)
    coded = form(grid.mT[None])
    points = [
        [(digit - number // 2) / (number // 2) for digit in range(number)] for number in levels
    ]
    expected = torch.tensor(list(product(*points))).mT[None]
    torch.testing.assert_close(coded.sample(), expected)
    assert sorted(coded.codes.flatten().tolist()) == list(range(form.books[0]))
    torch.testing.assert_close(form.values(coded.codes), expected)


def test_fsq_rounds_to_the_nearest_level_and_passes_the_gradient() -> None:
    form, raw = FSQ(4, (5, 4)), torch.randn(2, 4, 3, 7, requires_grad=True)
    coded = form(raw)
    assert coded.codes.shape == (2, 2, 3, 7)
    odd = 2 * 1.001 * raw[:, ::2].tanh()  # published bound of 5 levels; nearest of -2 … 2
    torch.testing.assert_close(coded.mean[:, ::2], odd / 2)
    nearest = (odd[..., None] - torch.arange(-2.0, 3)).abs().argmin(-1) - 2
    torch.testing.assert_close(coded.sample()[:, ::2], nearest / 2.0)
    (gradient,) = torch.autograd.grad(coded.sample()[:, ::2].sum(), raw)
    torch.testing.assert_close(gradient[:, ::2], 1.001 * (1 - raw[:, ::2].tanh().square()))
    assert not gradient[:, 1::2].any()


def brute_force(form: RVQ, vector: torch.Tensor) -> tuple[list[int], torch.Tensor, list[float]]:
    """Codes, latent and commitment of one vector (C,), entry by entry."""
    residual, latent, codes, costs = vector, torch.zeros_like(vector), [], []
    book: Any
    for book in form.parts:
        inside = book.inward(residual)
        angles = [float(F.cosine_similarity(inside, entry, dim=0)) for entry in book.entries.weight]
        best = max(range(len(angles)), key=angles.__getitem__)
        entry = book.entries.weight[best]
        out = book.outward(entry)
        codes.append(best)
        costs.append(float((inside - entry).square().mean()))
        residual, latent = residual - out, latent + out
    return codes, latent, costs


def test_rvq_against_brute_force() -> None:
    torch.manual_seed(0)
    form = RVQ(6, count=3, size=7, width=2).eval()
    raw = torch.randn(2, 6, 1, 4)
    with torch.no_grad():
        coded = form(raw)
        rows = raw.movedim(1, -1).flatten(0, -2)
        found = [brute_force(form, row) for row in rows]
    codes = torch.tensor([codes for codes, _, _ in found]).unflatten(0, (2, 1, 4)).movedim(-1, 1)
    assert torch.equal(coded.codes, codes)
    latents = torch.stack([latent for _, latent, _ in found]).unflatten(0, (2, 1, 4))
    torch.testing.assert_close(coded.sample(), latents.movedim(-1, 1))
    torch.testing.assert_close(coded.mean, raw, atol=0, rtol=0)
    cost = torch.tensor([sum(costs) for _, _, costs in found]).mean()
    torch.testing.assert_close(coded.penalties()["commitment"], cost)
    torch.testing.assert_close(coded.penalties()["codebook"], cost)
    torch.testing.assert_close(form.values(coded.codes), coded.sample())


def test_rvq_gradients_go_where_they_should() -> None:
    torch.manual_seed(0)
    form, raw = RVQ(4, count=2, size=5, width=2, dropout=0), torch.randn(3, 4, 6)
    raw.requires_grad_()
    books: Any = form.parts
    entries = [book.entries.weight for book in books]
    commitment, codebook = form(raw).penalties().values()
    pulls = [
        torch.autograd.grad(loss, entries, retain_graph=True) for loss in (commitment, codebook)
    ]
    assert not any(pull.any() for pull in pulls[0])
    assert all(pull.any() for pull in pulls[1])
    (through,) = torch.autograd.grad(form(raw).sample().sum(), raw)
    assert through.isfinite().all()
    assert through.any()


def test_dropout_of_codebooks_leaves_the_first_ones() -> None:
    torch.manual_seed(0)
    form = RVQ(4, count=3, size=5, width=2, dropout=1.0)
    raw = torch.randn(64, 4, 2)
    with torch.no_grad():
        coded = form(raw)
        prefixes = torch.stack([form.values(coded.codes[:, : k + 1]) for k in range(3)])
    distance = (prefixes - coded.sample()).abs().amax((2, 3))  # (3, B)
    assert (distance.amin(0) < 1e-5).all()
    assert set(distance.argmin(0).tolist()) == {0, 1, 2}
    torch.testing.assert_close(form.settle(coded.mean), prefixes[-1])  # what is heard has all
    form.eval()
    torch.testing.assert_close(form(raw).sample(), prefixes[-1])


@pytest.mark.parametrize(
    "form", [FSQ(4, (5, 4)), FSQ(4, (2,)), RVQ(4, count=3, size=5, width=2, dropout=0.9)]
)
def test_a_decoder_hears_what_codes_stand_for_whatever_was_sampled(form: FSQ | RVQ) -> None:
    """Also far outside of the data; and a target on the sound reaches the latent."""
    z = (3 * torch.randn(2, 4, 1, 50)).requires_grad_()
    heard, coded = form.settle(z), form.eval()(z)
    if isinstance(form, RVQ):
        expected = form.values(coded.codes)
    else:  # the nearest of all values, channel by channel: those of the codes
        every = form.values(torch.arange(form.books[0]).repeat(len(form.books), 1)[None])[0]
        nearest = (z[:, :, None] - every[None, :, :, None, None]).abs().argmin(2)
        expected = every[torch.arange(4)[:, None, None], nearest]
    torch.testing.assert_close(heard, expected)
    torch.testing.assert_close(form.settle(coded.mean), coded.sample(), atol=0, rtol=0)
    (gradient,) = torch.autograd.grad(heard.sum(), z)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_wrong_values_are_refused() -> None:
    with pytest.raises(UserError, match=r"bottleneck\.levels=\[5, 5, 5\] .* the 4 latent channels"):
        FSQ(4, (5, 5, 5))
    with pytest.raises(UserError, match=r"bottleneck\.size must be 2 or more, not 1"):
        RVQ(4, size=1)
    with pytest.raises(UserError, match=r"bottleneck\.dropout must be between 0 and 1, not 2"):
        RVQ(4, dropout=2)
