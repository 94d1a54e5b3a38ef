"""Values that nothing would refuse before minutes of preparing data, or steps of training."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

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
    scaled = str(cfg.trainer.precision) in ("16-mixed", "16")
    if scaled and cfg.trainer.gradient_clip_val and cfg.optimizer.get("fused"):
        raise UserError(
            "trainer.precision=16-mixed scales gradients, and a fused optimizer would see them "
            "clipped before they are scaled back: set optimizer.fused=false, or "
            "trainer.precision=bf16-mixed"
        )
    if scaled and cfg.trainer.strategy == "fsdp":
        raise UserError("trainer=fsdp scales no gradients: set trainer.precision=bf16-mixed")
    for key in ("vae", "gan"):
        if scaled and key in cfg and cfg[key].get("clip"):
            raise UserError(
                f"trainer.precision=16-mixed scales gradients, and {key}.clip would cut them as "
                f"they are then: set {key}.clip=0, or trainer.precision=bf16-mixed"
            )
    artifacts = cfg.logger.get("log_model", False)
    if artifacts not in (True, False, "all"):
        raise UserError(f"logger.log_model={artifacts} must be true, false or all")
    _positive("callbacks.demo.seconds", cfg.callbacks.demo.seconds)
    for key in ("core_seconds", "callbacks.peak_tflops", "trainer.batch_gib"):
        if OmegaConf.select(cfg, key) is not None:
            _positive(key, OmegaConf.select(cfg, key))


def _positive(key: str, value: object) -> None:
    if not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise UserError(f"{key} must be above 0 and finite, not {value}")
