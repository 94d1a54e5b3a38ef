"""Backpropagation through a whole sampler in the memory of one latent for each evaluation."""

from __future__ import annotations

import copy

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from glissando.diffusion.estimate import Denoise, Estimate
from glissando.errors import UserError
from glissando.guidance.base import Guidance
from glissando.samplers.base import Sampler


def checkpointed(denoise: Denoise) -> Denoise:
    """``denoise``, of which autograd keeps the input z alone and computes the rest once more.

    The gradient is the same to the bit. Samplers are linear in z and in the estimates, with
    numbers of the host as factors, so that they keep no tensor themselves: it is the denoiser that
    has to be checkpointed and not their steps, which remember estimates of earlier ones.
    ``denoise`` must answer the same each time (``check_differentiable``).
    """

    def denoise_again(z: Tensor, t: Tensor) -> Estimate:
        kept = checkpoint(denoise, z, t, use_reentrant=False, preserve_rng_state=False)
        assert isinstance(kept, Estimate)
        return kept

    return denoise_again


def check_differentiable(sampler: Sampler, guidance: Guidance, strength: float | None) -> None:
    """Raises UserError, naming the flag, for what has no gradient that can be computed so.

    ``strength`` is that of an edit; None where no sound is started from.
    """
    if strength == 0:
        raise UserError("ditto has no noise to optimize at strength=0: give a strength= above it")
    if not sampler.differentiable:
        raise UserError(
            "ditto cannot differentiate this sampler, which chooses its steps by looking at z: "
            "use sampler=heun, dpmpp_2m or another with a fixed number of steps"
        )
    if not guidance.repeatable:
        raise UserError(
            "ditto cannot differentiate a guidance that remembers the step before: set "
            "guidance.momentum=0, or use guidance=cfg"
        )


def surrogate(sampler: Sampler, steps: int | None) -> Sampler:
    """The same sampler with fewer (any number of) steps; itself if ``steps`` is None."""
    other = copy.copy(sampler)
    other.steps = sampler.steps if steps is None else steps
    return other
