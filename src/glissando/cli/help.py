"""``--help`` in a fraction of a second: read from the yaml files, without composing them.

The text is the config's own: the comment at the top of ``conf/<name>.yaml`` says what the command
does and shows examples, the comment beside a key says what that key is, and the folders of
``conf/`` say which options a group has. Nothing is written twice.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import fill

import yaml

_KEY = re.compile(r"( *)([A-Za-z_]\w*):(?:[ \t]+(.*))?")
_COMMENT = re.compile(r"(?:^|\s)#\s*(.*)$")

_FOOT = """\
Any key of the config can be set: key=value, group=option, +new.key=value; -m sweeps over
commas. Prompts and paths are taken as typed. --cfg job shows the whole config and runs nothing,
--hydra-help shows Hydra's own flags. GLISSANDO_DEBUG=1 shows the stack of an error."""


def help_text(program: str, config_name: str, conf: Path) -> str:
    """The help of the command that runs ``conf/<config_name>.yaml``; `program` is how to type it.

    Raises OSError when the yaml is not there.
    """
    sources = _family(config_name, conf)
    parts = [f"usage: {program} [key=value …] [group=option …]", _header(sources[-1])]
    keys = [key for source in sources for key in _keys(source)]
    if keys:
        parts.append("keys:\n" + _columns(keys))
    groups = _groups([yaml.safe_load(source) or {} for source in sources], conf)
    if groups:
        parts.append("groups:\n" + "\n".join(groups))
    return "\n\n".join(part for part in [*parts, _FOOT] if part)


def _family(config_name: str, conf: Path) -> list[str]:
    """The yaml of a command, after those of the commands that it starts from."""
    source = (conf / f"{config_name}.yaml").read_text(encoding="utf-8")
    defaults = (yaml.safe_load(source) or {}).get("defaults") or []
    parents = [name for name in defaults if isinstance(name, str) and name != "_self_"]
    return [*(text for parent in parents for text in _family(parent, conf)), source]


def _header(source: str) -> str:
    lines = []
    for line in source.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line[1:].removeprefix(" "))
    return "\n".join(lines).strip("\n")


def _keys(source: str) -> list[tuple[str, str]]:
    """(key=default, comment) of every scalar at the top or in a section of the top, in order."""
    found = []
    section = ""
    for line in source.splitlines():
        match = _KEY.fullmatch(line)
        if not match:
            continue
        indent, key, rest = match[1], match[2], match[3] or ""
        comment = _COMMENT.search(rest)
        value = rest[: comment.start()].strip() if comment else rest.strip()
        about = comment[1] if comment else ""
        if not indent:
            section = key
        if section in ("defaults", "hydra") or (indent and indent != "  "):
            continue
        name = f"{section}.{key}" if indent else key
        if value or about:
            found.append((f"{name}={value}" if value else f"{name}.…", about))
    return found


def _groups(configs: list[dict], conf: Path) -> list[str]:
    """One paragraph a group, and after it those that lie in it; the default is marked."""
    chosen: dict[str, object] = {}
    for entry in (entry for config in configs for entry in config.get("defaults") or []):
        if isinstance(entry, dict):
            name, option = next(iter(entry.items()))
            words = name.split()
            if "override" not in words:
                chosen[words[-1].partition("@")[0].lstrip("/")] = option
    lines = []
    for group, option in chosen.items():
        options = group_options(conf, group)
        if options:
            default = option if isinstance(option, list) else [option]
            marked = [f"{name}*" if name in default else name for name in options]
            lines.append(_wrapped(f"  {group:<17} ", ", ".join(marked)))
        for inner in sorted(path for path in (conf / group).glob("*") if path.is_dir()):
            name = f"{group}/{inner.name}"
            lines.append(_wrapped(f"  {name:<17} ", ", ".join(group_options(conf, name))))
    return [*lines, "  (* is the default)"] if lines else []


def group_options(conf: Path, group: str) -> list[str]:
    """The options of a config group, sorted: the yaml files of its folder."""
    return sorted(path.stem for path in (conf / group).glob("*.yaml"))


def _columns(rows: list[tuple[str, str]]) -> str:
    width = min(28, max(len(left) for left, _ in rows))
    return "\n".join(_wrapped(f"  {left:<{width}}  ", right, width + 4) for left, right in rows)


def _wrapped(head: str, text: str, indent: int = 20) -> str:
    options = {"width": 98, "subsequent_indent": " " * indent, "break_on_hyphens": False}
    return fill(text, initial_indent=head, **options) if text else head.rstrip()
