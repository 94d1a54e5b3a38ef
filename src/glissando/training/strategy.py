"""How several processes share one training, from ``trainer.strategy=``."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.strategies import Strategy

from glissando.training.adversary import AdversarialModule
from glissando.training.sharding import Sharded


def resolve(strategy: Any, module: Any, several: bool) -> Strategy | Any:
    """What Lightning takes for ``strategy``: ``auto``, ``ddp``, ``fsdp`` or a name of its own.

    ``several``: may there be more than one process?
    """
    if strategy == "fsdp":
        return Sharded()
    if strategy == "ddp" or (strategy == "auto" and several):
        # One side's pass leaves the other side's weights unused.
        adversarial = isinstance(module, AdversarialModule)
        return "ddp_find_unused_parameters_true" if adversarial else "ddp"
    return strategy
