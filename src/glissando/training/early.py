"""Values that nothing would refuse before minutes of preparing data, or steps of training."""

from __future__ import annotations

from omegaconf import DictConfig

from glissando.build import whole_number
from glissando.errors import UserError

# Key -> the least whole number that makes sense.
NUMBERS = {
    "seed": 0,
    "trainer.val_check_interval": 1,
    "trainer.log_every_n_steps": 1,
    "trainer.accumulate_grad_batches": 1,
    "callbacks.checkpoint.every_n_train_steps": 0,
    "callbacks.checkpoint.save_top_k": -1,
    "callbacks.demo.every_n_steps": 0,
    "callbacks.guard.patience": 1,
}
PRECISIONS = ("highest", "high", "medium")


def look_over(cfg: DictConfig) -> None:
    """Raises UserError, naming the flag, for a value that could only fail later."""
    for key, least in NUMBERS.items():
        whole_number(cfg, key, least)
    if cfg.matmul_precision not in PRECISIONS:
        raise UserError(f"matmul_precision={cfg.matmul_precision} is none of {PRECISIONS}")
    _positive("callbacks.demo.seconds", cfg.callbacks.demo.seconds)
    if cfg.core_seconds is not None:
        _positive("core_seconds", cfg.core_seconds)
    if cfg.callbacks.peak_tflops is not None:
        _positive("callbacks.peak_tflops", cfg.callbacks.peak_tflops)


def _positive(key: str, value: object) -> None:
    if not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise UserError(f"{key} must be above 0 and finite, not {value}")
