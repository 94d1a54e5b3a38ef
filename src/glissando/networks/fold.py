"""Weights as they are used, once training is over."""

from __future__ import annotations

from typing import TypeVar

from torch import nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

Network = TypeVar("Network", bound=nn.Module)


def fold(network: Network) -> Network:
    """Replaces each normalized weight by its value, in place; returns ``network``.

    A weight-normalized layer computes its weight anew in every call. What is folded is no longer
    to be trained, and its state has other names.
    """
    for module in list(network.modules()):
        for name in list(getattr(module, "parametrizations", {})):
            if is_parametrized(module, name):
                remove_parametrizations(module, name, leave_parametrized=True)
    return network
