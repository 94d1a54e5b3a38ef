"""Targets reached by a tiny model that has really been trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glissando.ditto.base import Sound, Target
from glissando.ditto.inpaint import Inpaint
from glissando.ditto.intensity import Intensity
from glissando.ditto.melody import Melody
from glissando.ditto.structure import Structure
from glissando.editing import FADE
from glissando.errors import UserError
from glissando.generation import Generator, load
from glissando.guidance import ClassifierFree, Unguided
from glissando.guidance.apg import APG
from glissando.samplers.dpmpp_2m import DPMpp2M
from glissando.samplers.euler import Euler
from glissando.samplers.ode import Ode
from glissando.samplers.pingpong import PingPong
from glissando.samplers.spacing import LogSnrLinear
from tiny import RATE

SAMPLER = DPMpp2M(8, LogSnrLinear())
CURVE = "0:-35 0.75:-12 1.5:-35"


def quick(**settings) -> Intensity:
    return Intensity(curve=CURVE, smooth=0.2, iterations=3, **settings)


def test_the_intensity_curve_s_error_falls_fivefold_within_50_iterations(model: Generator) -> None:
    target = Intensity(curve=CURVE, smooth=0.2, tolerance=0)
    (plain,) = model.generate(["a tone"], 1.5, 0, SAMPLER, Unguided())
    (clip,) = model.generate(["a tone"], 1.5, 0, SAMPLER, Unguided(), ditto=target)
    search = clip.facts["search"]
    assert len(search["losses"]) == 50
    aim = target.aim(Sound(RATE, 1, round(1.5 * RATE)))
    before, after = (float(aim(each.wave[None])[0]) for each in (plain, clip))
    assert search["losses"][0] == pytest.approx(before, rel=1e-4)
    assert search["loss"] == pytest.approx(after, rel=1e-4)
    assert after < before / 5
    assert clip.facts["evaluations"] == SAMPLER.steps


@pytest.mark.parametrize("name", ["melody", "structure", "inpaint"])
def test_every_target_s_loss_falls(model: Generator, swells: Path, name: str) -> None:
    how = {"iterations": 15, "lr": 0.1, "tolerance": 0}
    target: Target = {
        "melody": lambda: Melody(notes="0:C 0.75:G", **how),
        "structure": lambda: Structure(form="0:A 0.5:B 1:A", every=0.25, **how),
        "inpaint": lambda: Inpaint(reference=str(swells / "03.wav"), keep="0-0.7", **how),
    }[name]()
    (clip,) = model.generate(["a tone"], 1.5, 0, SAMPLER, Unguided(), ditto=target)
    search = clip.facts["search"]
    assert search["loss"] == pytest.approx(min(search["losses"]), rel=1e-3)
    assert search["loss"] < 0.75 * search["losses"][0]


def test_a_clip_is_sought_alike_alone_and_among_others(model: Generator) -> None:
    three = model.generate(["a", "b", "c"], 1.0, 4, SAMPLER, ditto=quick())
    (alone,) = model.generate(["b"], 1.0, 5, SAMPLER, ditto=quick())
    assert torch.equal(alone.wave, three[1].wave)
    assert alone.facts["search"] == three[1].facts["search"]


def test_an_edit_is_optimized_where_it_is_made_and_keeps_the_rest(model: Generator) -> None:
    generator = torch.Generator().manual_seed(0)
    wave = 0.1 * torch.randn(1, round(1.5 * RATE), generator=generator)
    (clip,) = model.generate(
        ["a"], None, 0, SAMPLER, init=wave, make=[(0.5, 0.9)], ditto=quick(lr=0.2)
    )
    edge = round((0.5 - FADE) * RATE)
    assert torch.equal(clip.wave[:, :edge], wave[:, :edge])
    losses = clip.facts["search"]["losses"]
    assert min(losses[1:]) < losses[0]
    assert clip.facts["search"]["loss"] == pytest.approx(min(losses), rel=1e-4)


def test_a_sampler_that_adds_noise_adds_the_same_in_the_end(model: Generator) -> None:
    (clip,) = model.generate(["a"], 1.0, 0, PingPong(4), ditto=quick())
    search = clip.facts["search"]
    assert search["loss"] == pytest.approx(min(search["losses"]), rel=1e-4)


# ---- DITTO-2 ---------------------------------------------------------------------------------


class Counting(Euler):
    """How many steps each of its runs, and those of its copies, took."""

    runs: list[int]

    def __call__(self, *arguments):
        self.runs.append(self.steps)
        return super().__call__(*arguments)


def test_few_steps_search_and_all_play(model: Generator) -> None:
    sampler, told = Counting(6), []
    sampler.runs = []
    (clip,) = model.generate(
        ["a"], 1.0, 0, sampler, ditto=quick(steps=2),
        progress=lambda now, of: told.append((now, of)),
    )  # fmt: skip
    assert sampler.runs == [2, 2, 2, 6]
    assert clip.facts["evaluations"] == 6
    assert len(clip.facts["search"]["losses"]) == 3
    assert told[-1] == (12, 12)
    assert [now for now, _ in told] == sorted(now for now, _ in told)


def test_another_model_searches(model: Generator, trained: Path) -> None:
    (own,) = model.generate(["a"], 1.0, 0, SAMPLER, ditto=quick())
    (same,) = model.generate(["a"], 1.0, 0, SAMPLER, ditto=quick(ckpt=str(trained)))
    assert torch.equal(own.wave, same.wave)
    assert list(model.companions) == [str(trained)]
    # One that knows nothing leads elsewhere, and what is played is the model's own.
    other = model.companions[str(trained)]
    for weight in other.denoiser.network.parameters():
        weight.zero_()
    (led,) = model.generate(["a"], 1.0, 0, SAMPLER, ditto=quick(ckpt=str(trained)))
    assert not torch.equal(own.wave, led.wave)
    assert led.facts["search"]["losses"][0] != own.facts["search"]["losses"][0]


def test_a_searching_model_of_other_latents_is_refused(
    model: Generator, trained: Path, tmp_path: Path
) -> None:
    stored = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    name = next(name for name in stored["state_dict"] if name.endswith("analysis.weight"))
    stored["state_dict"][name] = stored["state_dict"][name] * 1.01
    torch.save(stored, tmp_path / "other.ckpt")
    for ckpt, line in {
        str(tmp_path / "other.ckpt"): "was trained on another",
        "no/where": "does",
    }.items():
        with pytest.raises(UserError, match=rf"^ditto\.ckpt={ckpt} {line}"):
            model.generate(["x"], 1.0, 0, SAMPLER, ditto=quick(ckpt=ckpt))


# ---- what cannot be sought -------------------------------------------------------------------


def test_what_has_no_gradient_is_refused_before_anything_is_played(model: Generator) -> None:
    with pytest.raises(UserError, match="use sampler=heun"):
        model.generate(["x"], 1.0, 0, Ode(), ditto=quick())
    with pytest.raises(UserError, match=r"guidance\.momentum=0"):
        model.generate(["x"], 1.0, 0, SAMPLER, APG(), ditto=quick())
    with pytest.raises(UserError, match="strength=0"):
        model.generate(
            ["x"], 1.0, 0, SAMPLER, ClassifierFree(), init=torch.zeros(1, RATE), strength=0,
            ditto=quick(),
        )  # fmt: skip


def test_nothing_of_it_is_left_behind(model: Generator, trained: Path) -> None:
    """Weights have no gradients, and what is played afterwards is what would have been."""
    model.generate(["x"], 1.0, 0, SAMPLER, ditto=quick())
    assert all(weight.grad is None for weight in model.denoiser.parameters())
    (one,), (two,) = (
        each.generate(["x"], 1.0, 0, SAMPLER) for each in (model, load(str(trained), "cpu"))
    )
    assert torch.equal(one.wave, two.wave)
    assert not one.wave.requires_grad
