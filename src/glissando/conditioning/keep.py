"""Keeps what depends on the condition alone over the many steps of sampling one clip."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import nn

_T = TypeVar("_T")
_store: ContextVar[dict[nn.Module, tuple[tuple[object, ...], Any]] | None]
_store = ContextVar("kept", default=None)


@contextmanager
def keeping() -> Generator[None]:
    """Inside, with gradients off, modules reuse what they made of the very same objects.

    Nothing outlives the `with`, and weights must not change inside it. It pays where the same
    condition object is passed at every step.
    """
    token = _store.set({})
    try:
        yield
    finally:
        _store.reset(token)


def kept(owner: nn.Module, source: tuple[object, ...], make: Callable[[], _T]) -> _T:
    """`make()`, or what it made last time if `owner` was then given the same `source` objects."""
    store = None if torch.is_grad_enabled() else _store.get()
    if store is None:
        return make()
    held = store.get(owner)
    if held is None or any(a is not b for a, b in zip(held[0], source, strict=True)):
        held = store[owner] = (source, make())  # holds `source` too, so that no id is reused
    return held[1]
