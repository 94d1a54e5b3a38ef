"""``glissando check``: a folder or shards looked over before anything is trained on them.

Not to be taken for ``cli/check.py``, which looks over the command line of every command.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from glissando.errors import UserError
from glissando.progress import OUT, say


def survey(cfg: DictConfig) -> None:
    """Listens to every clip, prints a table and writes ``check.json`` and ``check.png``.

    Raises UserError, and so ends with status 1, where a file cannot be read, and with
    ``strict=true`` where anything at all was found.
    """
    from glissando.datasets.findings import Findings, Limits
    from glissando.datasets.remote import Access
    from glissando.datasets.survey import Survey

    root = OmegaConf.select(cfg, "data.root", throw_on_missing=False)
    if not root:
        raise UserError("data.root= names what to look over: a folder of audio, or shards")
    limits = Limits(**OmegaConf.to_container(cfg.limits))  # type: ignore[arg-type]
    access = {name: cfg.data[name] for name in ("retries", "timeout", "cache") if name in cfg.data}
    look = Survey(cfg.silence, cfg.data.get("caption"), Access(**access))
    root = str(root) if isinstance(root, str) else "::".join(root)
    findings = Findings(look.of(root, cfg.workers), limits)
    folder = Path(cfg.out)
    findings.write(folder, root)
    OUT.print(findings.table(root))
    say(f"checked: {folder / 'check.json'}")
    bad = {name: len(names) for name, names in findings.of.items() if names}
    if not findings.good:
        raise UserError(f"nothing in data.root={root} can be read: {findings.bad[0].error}")
    if "unreadable" in bad:
        raise UserError(
            f"{bad['unreadable']} of {len(findings.heard)} cannot be read, e.g. "
            f"{findings.of['unreadable'][0]}: mend or remove them, or let `glissando prepare` "
            "leave them out"
        )
    if cfg.strict and bad:
        told = ", ".join(f"{count} {name}" for name, count in bad.items())
        raise UserError(f"found {told}: see {folder / 'check.json'}, or set strict=false")
