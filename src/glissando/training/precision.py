"""``trainer.precision=``."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.plugins.precision import MixedPrecision


def precision_of(precision: str, accelerator: str) -> dict[str, Any]:
    """Arguments of Lightning's trainer for ``trainer.precision=``.

    On a processor Lightning takes 16-mixed for bf16-mixed, with its plugin it does as it is told.
    """
    precision = resolve(precision, accelerator)
    on_cpu = accelerator == "cpu" or (
        accelerator == "auto" and not torch.accelerator.is_available()
    )
    if precision == "16-mixed" and on_cpu:
        return {"precision": None, "plugins": [MixedPrecision(precision, "cpu")]}
    return {"precision": precision, "plugins": []}


def resolve(precision: str, accelerator: str) -> str:
    """``auto`` as bf16-mixed where the chip multiplies in bf16, else 32-true.

    On processors with AVX-512 BF16 or AMX matrix products run about 3 times faster; without them
    bf16 is emulated and slower than float32.
    """
    if precision != "auto":
        return precision
    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    if accelerator in ("cpu", "auto") and cpu_has_bf16():
        return "bf16-mixed"
    return "32-true"


def cpu_has_bf16() -> bool:
    """Whether this processor has instructions for bf16 products."""
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(flags.get("avx512_bf16") or flags.get("amx_bf16") or flags.get("bf16"))
