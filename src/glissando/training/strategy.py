"""How several processes share one training, from ``trainer.strategy=``."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.strategies import Strategy

from glissando.errors import UserError
from glissando.training.adversary import AdversarialModule
from glissando.training.sharding import Sharded


def resolve(strategy: Any, module: Any, several: bool) -> Strategy | Any:
    """What Lightning takes for ``strategy``: ``auto``, ``ddp``, ``fsdp`` or a name of its own.

    ``several``: may there be more than one process?

    Raises UserError for ``fsdp`` of a module that is not made to be sharded.
    """
    adversarial = isinstance(module, AdversarialModule)
    if strategy == "fsdp":
        if adversarial:
            raise UserError(
                "trainer=fsdp shards diffusion models: autoencoders and vocoders, which fit into "
                "any GPU, train with trainer=ddp"
            )
        return Sharded()
    if strategy == "ddp" or (strategy == "auto" and several):
        # One side's pass leaves the other side's weights unused.
        return "ddp_find_unused_parameters_true" if adversarial else "ddp"
    return strategy
