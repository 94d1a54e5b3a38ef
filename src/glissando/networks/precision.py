"""Where autocast must not reach."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> AbstractContextManager[Any]:
    """No autocast on the device of ``tensor`` within."""
    if tensor.is_meta:  # where operations are counted; it has no autocast to turn off
        return nullcontext()
    return torch.autocast(tensor.device.type, enabled=False)
