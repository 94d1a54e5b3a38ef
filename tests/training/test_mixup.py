"""Beat-synchronous mixup in closed form."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from glissando.errors import UserError
from glissando.training.mixup import BeatMixup, beats_of
from tiny import DIT, Train, numbers, stored

ROWS = [
    {"bpm": 100, "beats": [0.3, 0.9, 1.5], "crop_start": 0.0},
    {"bpm": 102, "beats": [0.1, 0.7, 1.3], "crop_start": 0.0},
    {"bpm": 60, "beats": [0.0, 1.0], "crop_start": 0.0},
    {"bpm": 101},
]


class Known(BeatMixup):
    """With the draws given."""

    def draw(self) -> tuple[float, float, float]:
        return 0.0, 0.0, 0.75


def test_beats_meet_and_the_mixture_is_linear() -> None:
    x = torch.randn(4, 3, 2, 20)
    mixed = Known(p=0.5)(x, ROWS, rate=10)
    # The second clip's beat at 0.1 s is laid on the first's at 0.3 s: two frames later.
    wanted = x[0].clone()
    wanted[..., 2:] = 0.75 * x[0, ..., 2:] + 0.25 * x[1, ..., :-2]
    torch.testing.assert_close(mixed[0], wanted)
    wanted = x[1].clone()
    wanted[..., :-2] = 0.75 * x[1, ..., :-2] + 0.25 * x[0, ..., 2:]
    torch.testing.assert_close(mixed[1], wanted)
    assert torch.equal(mixed[2:], x[2:])  # another tempo; no beats


def test_a_crop_has_its_own_first_beat() -> None:
    assert beats_of({**ROWS[0], "crop_start": 0.5}) == pytest.approx([0.4, 1.0])
    x = torch.randn(2, 1, 1, 12)
    rows = [{**ROWS[0], "crop_start": 0.5}, {**ROWS[1], "crop_start": 0.3}]  # 0.4 s both
    torch.testing.assert_close(Known(p=1)(x, rows, 10)[0], 0.75 * x[0] + 0.25 * x[1])


def test_padding_is_not_mixed() -> None:
    x = torch.randn(2, 1, 1, 10)
    mask = torch.tensor([[True] * 10, [True] * 4 + [False] * 6])
    mixed = Known(p=1)(x, ROWS[:2], 10, mask)
    assert torch.equal(mixed[0, ..., 6:], x[0, ..., 6:])  # 4 frames of the partner, 2 later
    assert (mixed[0, ..., 2:6] != x[0, ..., 2:6]).all()
    assert torch.equal(mixed[1, ..., 4:], x[1, ..., 4:])


def test_draws_are_those_of_the_seed_and_of_beta() -> None:
    x = torch.randn(4, 3, 2, 20)
    mixup = BeatMixup(p=0.7)
    torch.manual_seed(3)
    once = mixup(x, ROWS, 10)
    torch.manual_seed(3)
    assert torch.equal(mixup(x, ROWS, 10), once)
    share = torch.tensor([mixup.draw()[2] for _ in range(3000)])
    assert share.min() >= 0.5
    grid = (torch.arange(100000, dtype=torch.float64) + 0.5) / 100000
    density = (grid * (1 - grid)) ** 4
    wanted = (torch.maximum(grid, 1 - grid) * density).sum() / density.sum()
    assert abs(share.mean() - wanted) < 0.006  # 3.6 standard errors


def test_off_is_nothing_at_all() -> None:
    x = torch.randn(4, 3, 2, 20)
    before = torch.get_rng_state()
    assert BeatMixup()(x, ROWS, 10) is x
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("option", "value"), [("p", 1.5), ("tolerance", -0.1)])
def test_what_cannot_be_is_refused(option: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"diffusion\.mixup\.{option}={value} must be"):
        BeatMixup(**{option: value})


@pytest.fixture
def beaten(songs: Path, tmp_path: Path) -> Path:
    """The tones with a tempo and beats beside them."""
    root = tmp_path / "beaten"
    root.mkdir()
    for number, tone in enumerate(sorted(songs.glob("*.wav"))):
        shutil.copy(tone, root)
        facts = {"caption": "a tone", "bpm": 120, "beats": [0.1 + 0.02 * number, 0.6, 1.1]}
        (root / f"{tone.stem}.json").write_text(json.dumps(facts))
    return root


def test_training_mixes_when_asked_and_goes_on_as_if_unbroken(
    train: Train, vae: Path, beaten: Path, tmp_path: Path
) -> None:
    some = [
        *DIT, f"representation.autoencoder={vae}", f"data.root={beaten}",
        f"prepare.shards={tmp_path / 'shards'}",
    ]  # fmt: skip
    for name, steps, p, more in (
        ("off", 4, 0, []), ("whole", 4, 1, []), ("halves", 2, 1, []),
        ("halves", 4, 1, ["ckpt=last"]),
    ):  # fmt: skip
        train(
            tmp_path / name, *some, f"trainer.max_steps={steps}", f"diffusion.mixup.p={p}",
            "schedule=constant", *more,
        )  # fmt: skip
    losses = {name: [row.get("train/loss") for row in numbers(tmp_path / name)]
              for name in ("off", "whole", "halves")}  # fmt: skip
    assert losses["whole"] != losses["off"]
    whole, halves = (stored(tmp_path / name)["state_dict"] for name in ("whole", "halves"))
    for weight in whole:
        torch.testing.assert_close(halves[weight], whole[weight], atol=0, rtol=0)
