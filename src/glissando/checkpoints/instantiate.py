"""Objects from configs: our own, and those that came with a file."""

from __future__ import annotations

from typing import Any

from glissando.errors import UserError

# What a model is made of. Nothing in these rooms writes files or runs commands.
ROOMS = (
    "glissando.networks", "glissando.representations", "glissando.conditioning",
    "glissando.conditioners", "glissando.text_encoders", "glissando.diffusion",
    "glissando.vocoders", "glissando.controls",
)  # fmt: skip


def check_targets(config: Any) -> None:
    """Raises UserError if nested containers name a ``_target_`` that is no part of a model.

    A config travels inside checkpoints that people download, and Hydra would call whatever it
    names. What counts is where the object that the name leads to is defined, because a name may
    pass through a module into all that it imports (``glissando.room.os.system``).
    """
    if isinstance(config, dict):
        if "_target_" in config and not _is_part_of_a_model(config["_target_"]):
            raise UserError(
                f"the model's config wants to call {config['_target_']!r}, which is no part of a "
                f"model (allowed: {', '.join(ROOMS)}, torch.nn): if it came with a checkpoint, do "
                "not trust that"
            )
        for value in config.values():
            check_targets(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            check_targets(value)
    elif isinstance(config, str) and "${" in config:
        raise UserError(f"the checkpoint's config holds an unresolved {config!r}: do not trust it")


def _is_part_of_a_model(target: Any) -> bool:
    from torch import nn

    name = str(target)
    if not any(name.startswith(f"{place}.") for place in (*ROOMS, "torch.nn")):
        return False
    from hydra.utils import get_object

    try:
        found = get_object(name)
    except Exception as error:
        raise UserError(f"_target_={name} cannot be found: {error}") from None
    home = getattr(found, "__module__", None) or ""
    if isinstance(found, type) and issubclass(found, nn.Module) and home.startswith("torch.nn."):
        return True
    return callable(found) and f"{home}.".startswith(tuple(f"{room}." for room in ROOMS))


def instantiate(config: Any, *args: Any, **kwargs: Any) -> Any:
    """``hydra.utils.instantiate``, out of which an error of ours comes as itself.

    For what the user wrote; what came with a file goes through ``check_targets`` first.
    """
    import hydra
    from hydra.errors import InstantiationException

    try:
        return hydra.utils.instantiate(config, *args, **kwargs)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from None
        raise
