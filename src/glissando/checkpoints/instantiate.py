"""Objects from a config that came with a file: only of packages that cannot run commands."""

from __future__ import annotations

from typing import Any

from glissando.errors import UserError

ALLOWED = ("glissando.", "torch.nn.", "torch.optim.", "lightning.")


def check_targets(config: Any) -> None:
    """Raises UserError if any ``_target_`` in nested containers lies outside ``ALLOWED``.

    A config travels inside checkpoints that people download; Hydra would call whatever it names.
    """
    if isinstance(config, dict):
        target = config.get("_target_")
        if target is not None and not str(target).startswith(ALLOWED):
            raise UserError(
                f"the checkpoint's config wants to call {target!r}, which is not allowed: "
                "it does not come from glissando, do not trust it"
            )
        for value in config.values():
            check_targets(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            check_targets(value)


def instantiate(config: Any, *args: Any, **kwargs: Any) -> Any:
    """``hydra.utils.instantiate`` after ``check_targets``; an error of ours comes out as itself."""
    import hydra
    from hydra.errors import InstantiationException

    check_targets(config)
    try:
        return hydra.utils.instantiate(config, *args, **kwargs)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from None
        raise
