"""Look over a command line before anything runs: misspelt keys, options, values of a wrong type.

Hydra refuses a wrong key by itself but does not say which one was meant, finds it in a sweep only
when that job's turn comes, and takes ``trainer.max_steps=abc`` as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from glissando.cli.failure import unknown_option
from glissando.cli.nearest import did_you_mean
from glissando.errors import UserError


def check(
    overrides: list[str], config_name: str, conf: Path, searchpath: Path | None = None
) -> None:
    """Raise UserError if an override names no key or option, or has a value of a wrong type.

    `overrides` are in Hydra's grammar (see `quoting`); `searchpath` is what ``--config-dir``
    added. Raises Hydra's exceptions where the config itself does not compose.
    """
    parsed = OverridesParser.create().parse_overrides(overrides)
    with initialize_config_dir(str(conf), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        groups = {o.key_or_group: _options(loader, config_name, o) for o in parsed}
        values = [o for o in parsed if _sets_a_value(o, groups[o.key_or_group])]
        structure = []
        for override in parsed:
            if override not in values:
                if searchpath is None:
                    _refuse_unknown_options(override, groups[override.key_or_group])
                structure.append(_first_choice(override))
        if searchpath is not None:
            structure.append(f"hydra.searchpath=[file://{searchpath}]")
        cfg = compose(config_name, overrides=[line for line in structure if line])
        known = [*_keys(cfg), *loader.list_groups("")]
    for override in values:
        _refuse_wrong_value(override, cfg)
        _refuse_unknown_key(override, cfg, known)


def _options(loader: ConfigLoader, config_name: str, override: Override) -> list[str]:
    return loader.get_group_options(override.key_or_group, ObjectType.CONFIG, config_name, [])


def _sets_a_value(override: Override, options: list[str]) -> bool:
    """Whether it changes an existing key: no group, no ``+``, ``++`` or ``~``, none of Hydra's."""
    changes = not (override.is_add() or override.is_force_add() or override.is_delete())
    return changes and not options and override.package is None and not override.is_hydra_override()


def _choices(override: Override) -> Iterator[object]:
    """What it sets: one value, or each one of a list that is swept over."""
    value = override.value()
    if isinstance(value, ChoiceSweep):
        for choice in value.list:
            yield choice.text if isinstance(choice, QuotedString) else choice
    elif not override.is_sweep_override():
        yield value


def _first_choice(override: Override) -> str | None:
    if not override.is_sweep_override():
        return override.input_line
    if not isinstance(override.value(), ChoiceSweep):
        return None  # glob() and the like: any of them may come first
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


def _refuse_unknown_options(override: Override, options: list[str]) -> None:
    for choice in _choices(override) if options else ():
        for name in choice if isinstance(choice, list) else [choice]:
            option = name.text if isinstance(name, QuotedString) else name
            if isinstance(option, str) and "/" not in option and option not in options:
                raise UserError(unknown_option(override.key_or_group, option, options))


def _refuse_unknown_key(override: Override, cfg: DictConfig, known: list[str]) -> None:
    key = override.key_or_group
    value = next(_choices(override), None)
    try:
        OmegaConf.update(cfg, key, value, merge=True)
    except (ConfigAttributeError, ConfigKeyError):
        close = did_you_mean(key, known)
        raise UserError(f"unknown key {key}{close} (+{key}=… adds a new one)") from None


def _refuse_wrong_value(override: Override, cfg: DictConfig) -> None:
    try:
        default = OmegaConf.select(cfg, override.key_or_group)
    except OmegaConfBaseException:
        return  # no default to compare with: missing, or it refers to what is missing
    for value in _choices(override):
        wanted = _wanted(default, value)
        if wanted:
            shown = f"{override.key_or_group}={value}"
            raise UserError(f"{shown}: wants {wanted} (its default is {_shown(default)})")


def _wanted(default: object, value: object) -> str | None:
    """What kind of value was wanted instead of `value`, or None if it may well be right.

    Only plain mistakes are refused: null, an interpolation and ``auto`` are always accepted, and
    a default that is text or null may be replaced by anything.
    """
    if value is None or (isinstance(value, str) and (value == "auto" or "${" in value)):
        return None
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int | float):
        return "a number" if isinstance(value, str | bool | dict) else None  # devices=[0,1] is fine
    if isinstance(default, ListConfig):
        return None if isinstance(value, list) else "a list, as in [a,b]"
    if isinstance(default, DictConfig):
        return None if isinstance(value, dict) else "keys of its own"
    return None


def _shown(default: object) -> str:
    if isinstance(default, DictConfig):
        return "{" + ", ".join(str(key) for key in default) + "}"
    return str(default)


def _keys(node: object, prefix: str = "") -> Iterator[str]:
    """Every dotted key below `node`; interpolations are not followed."""
    if isinstance(node, DictConfig):
        for key in node:
            yield f"{prefix}{key}"
            if not (OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, str(key))):
                yield from _keys(node[key], f"{prefix}{key}.")
