"""Linear codecs of frames, against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glissando.networks.transform import Components, LocalComponents, Transform

BANDS = 24


def two_kinds(clips: int = 40, frames: int = 60) -> tuple[Tensor, Tensor]:
    """Clips (N, T, D), each with 4 directions of its kind's own, and the kinds (N,)."""
    chance = torch.Generator().manual_seed(0)
    bases = [
        torch.linalg.qr(torch.randn(BANDS, BANDS, generator=chance))[0][:, :4] for _ in range(2)
    ]
    kinds = torch.arange(clips) % 2
    x = torch.stack([
        torch.randn(frames, 4, generator=chance) @ bases[kind].mT for kind in kinds.tolist()
    ])  # fmt: skip
    return x, kinds


def error(transform: Transform, x: Tensor, scale: Tensor) -> float:
    """Energy that is lost, as a share of all."""
    back = transform.synthesise(transform.analyse(x))
    lost, whole = ((a * scale).square().sum() for a in (back - x, x))
    return (lost / whole).item()


@pytest.mark.parametrize("scale", [torch.ones(BANDS), torch.linspace(0.1, 3, BANDS)])
def test_a_codec_for_each_kind_keeps_what_one_for_all_cannot(scale: Tensor) -> None:
    """8 directions in all, 4 of a kind: 5 channels with the kind's name lose nothing."""
    x, kinds = two_kinds()
    local, whole = LocalComponents(BANDS, 5, 1, BANDS, window=2), Components(BANDS, 5)
    for each in (local, whole):
        each.fit(x / scale, scale)
    assert error(local, x / scale, scale) < 1e-3
    assert error(whole, x / scale, scale) > 0.15

    name = local.analyse(x / scale)[..., -1]
    assert (name == name[:, :1]).all()  # of a clip, its frames agree
    assert (name[:, 0] == name[0, 0]).tolist() == (kinds == kinds[0]).tolist()


def test_one_codec_is_the_projection_on_the_leading_components() -> None:
    x, _ = two_kinds()
    transform = Components(BANDS, 3)
    transform.fit(x, torch.ones(BANDS))
    leading = torch.linalg.svd(x.flatten(0, 1), full_matrices=False)[2][:3]
    projected = x @ leading.mT @ leading
    back = transform.synthesise(transform.analyse(x))
    torch.testing.assert_close(back, projected, atol=1e-5, rtol=0)


def test_channels_have_unit_variance_within_each_codec() -> None:
    x, _ = two_kinds()
    transform = LocalComponents(BANDS, 5, 1, BANDS, window=2)
    transform.fit(x, torch.ones(BANDS))
    z = transform.analyse(x).flatten(0, 1)
    for name in (-1.0, 1.0):
        mine = z[z[:, -1] == name][:, :-1]
        torch.testing.assert_close(mine.square().mean(0), torch.ones(4), atol=1e-4, rtol=0)


def test_codecs_are_turned_towards_each_other() -> None:
    """Of two codecs of one space, as of one kind in two halves, the channels are the same."""
    x, _ = two_kinds()
    one_kind = x[::2]
    transform = LocalComponents(BANDS, 5, 1, BANDS, window=0)
    transform.fit(one_kind, torch.ones(BANDS))
    first, second = transform.decode.flatten(1)
    assert torch.cosine_similarity(first, second, dim=0) > 0.95


def test_a_name_that_noise_has_moved_is_still_read() -> None:
    x, _ = two_kinds()
    transform = LocalComponents(BANDS, 6, 2, BANDS, window=2)
    transform.fit(x, torch.ones(BANDS))
    z = transform.analyse(x)
    moved = z + torch.cat([torch.zeros_like(z[..., :4]), 0.2 * torch.randn_like(z[..., 4:])], 2)
    clean, noisy = transform.synthesise(z), transform.synthesise(moved)
    assert (noisy - clean).norm() < 0.05 * clean.norm()


def test_what_the_choice_looks_at_counts_as_seen() -> None:
    """A frame that is not a number makes all frames so whose codec it may change."""
    transform = LocalComponents(BANDS, 5, 1, BANDS, window=3)
    x = torch.randn(1, 20, BANDS)
    x[0, 10] = torch.nan
    seen = transform.analyse(x).isnan().flatten(2).any(2)[0].nonzero()[:, 0]
    assert seen.tolist() == list(range(7, 14))


def test_silence_fits_and_has_finite_gradients() -> None:
    transform = LocalComponents(BANDS, 5, 1, BANDS)
    x = torch.zeros(2, 100, BANDS, requires_grad=True)
    transform.fit(x.detach(), torch.full((BANDS,), 1e-5))
    transform.synthesise(transform.analyse(x)).square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    for parameter in transform.parameters():
        assert parameter.isfinite().all()
