"""Gradients through whole samplers: right, checkpointed to the bit, one latent an evaluation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

from glissando.checkpoints.instantiate import instantiate
from glissando.cli.conf import config_dir
from glissando.diffusion.estimate import Denoise, Estimate
from glissando.diffusion.oracle import GaussianMixture
from glissando.diffusion.path_rectified import Rectified
from glissando.ditto.through import check_differentiable, checkpointed, surrogate
from glissando.errors import UserError
from glissando.guidance.apg import APG
from glissando.guidance.base import Unguided
from glissando.samplers.base import Sampler
from glissando.samplers.editing import inpaint
from glissando.samplers.noise import ClipNoise

SHAPE = (2, 1, 8)
PATH = Rectified()
SAMPLERS = sorted(path.stem for path in (config_dir() / "sampler").glob("*.yaml"))


def sampler_of(option: str) -> Sampler:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        cfg = compose("sample", [f"sampler={option}"])
    sampler = instantiate(OmegaConf.to_container(cfg.sampler, resolve=True))
    sampler.steps = min(sampler.steps, 5)
    return sampler


def mixture() -> GaussianMixture:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(3, *SHAPE, generator=generator, dtype=torch.float64)
    return GaussianMixture(
        PATH, torch.tensor([0.2, 0.3, 0.5]).double(), means, torch.full_like(means, 0.4)
    )


def played(sampler: Sampler, denoise: Denoise, x: Tensor) -> Tensor:
    fresh = ClipNoise([0, 1], SHAPE, dtype=torch.float64)
    fresh()
    return sampler(denoise, PATH, x, fresh)


def noise() -> Tensor:
    return ClipNoise([0, 1], SHAPE, dtype=torch.float64)()


def weight(out: Tensor) -> Tensor:
    """A loss that is not linear in what was made."""
    return (out - 0.3).square().sum()


def slope(sampler: Sampler, denoise: Denoise) -> tuple[Tensor, list[Tensor]]:
    """The gradient by the noise, and each tensor as large as a latent that autograd kept."""
    x, held = noise().requires_grad_(), {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.numel() >= x.numel():
            held[tensor.data_ptr()] = tensor  # alive, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = played(sampler, denoise, x)
    (gradient,) = torch.autograd.grad(weight(out), x)
    return gradient, list(held.values())


@pytest.mark.parametrize("option", SAMPLERS)
def test_the_gradient_of_every_sampler(option: str) -> None:
    sampler = sampler_of(option)
    if not sampler.differentiable:
        with pytest.raises(UserError, match=r"^ditto cannot differentiate this sampler.*: use "):
            check_differentiable(sampler, Unguided(), None)
        return
    check_differentiable(sampler, Unguided(), None)
    plain, many = slope(sampler, mixture())
    gradient, few = slope(sampler, checkpointed(mixture()))
    assert torch.equal(gradient, plain)
    assert gradient.isfinite().all()
    # One latent, and no more than that, for each evaluation; without it a dozen.
    assert len(few) <= sampler.evaluations
    assert all(tensor.numel() == gradient.numel() for tensor in few)
    assert len(many) > 3 * len(few)
    # Against finite differences, in one direction.
    along = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    h = 1e-5
    ahead, behind = (
        weight(played(sampler, mixture(), noise() + sign * h * along)) for sign in (1, -1)
    )
    wanted = (ahead - behind) / (2 * h)
    torch.testing.assert_close((gradient * along).sum(), wanted, rtol=1e-5, atol=1e-7)


def test_an_edit_keeps_one_latent_an_evaluation_too() -> None:
    known = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(2)).double()
    make = torch.arange(SHAPE[-1]) < 3
    sampler = sampler_of("dpmpp_2m")
    plain, _ = slope(sampler, inpaint(mixture(), PATH, known, make))
    gradient, few = slope(sampler, checkpointed(inpaint(mixture(), PATH, known, make)))
    assert torch.equal(gradient, plain)
    assert len(few) <= sampler.evaluations
    assert gradient[..., :3].all()


def test_a_network_is_run_once_more_and_no_oftener() -> None:
    calls = []

    def denoise(z: Tensor, t: Tensor) -> Estimate:
        calls.append(float(t[0]))
        return mixture()(z, t)

    sampler = sampler_of("heun")
    slope(sampler, checkpointed(denoise))
    assert len(calls) == 2 * sampler.evaluations
    assert sorted(calls[: len(calls) // 2]) == sorted(calls[len(calls) // 2 :])


@pytest.mark.parametrize(
    ("guidance", "fine"),
    [(APG(), False), (APG(momentum=0), True), (APG(scale=1), True), (Unguided(), True)],
)
def test_a_guidance_that_remembers_is_refused(guidance: Any, fine: bool) -> None:
    sampler = sampler_of("euler")
    if fine:
        check_differentiable(sampler, guidance, 1.0)
    else:
        with pytest.raises(UserError, match=r"guidance\.momentum=0"):
            check_differentiable(sampler, guidance, 1.0)


def test_an_edit_of_strength_0_has_no_noise() -> None:
    with pytest.raises(UserError, match=r"strength=0: give a strength= above it"):
        check_differentiable(sampler_of("euler"), Unguided(), 0)


def test_a_surrogate_has_its_own_number_of_steps() -> None:
    sampler = sampler_of("heun")
    assert surrogate(sampler, 2).steps == 2
    assert surrogate(sampler, None).steps == sampler.steps == 5
    assert type(surrogate(sampler, 2)) is type(sampler)
