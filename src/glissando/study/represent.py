"""``glissando represent``: round trips of representations, side by side."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from glissando.build import plain, prepared, whole_number
from glissando.cli.sample import paths_of
from glissando.errors import UserError
from glissando.progress import ERR, Bar, say
from glissando.study.candidates import of_run, shipped
from glissando.study.comparison import compare


def represent(cfg: DictConfig) -> None:
    """Measures what ``cfg`` asks for and writes the tables and the page; prints the table.

    Raises UserError for what is named and is not there, before any data is made.
    """
    whole_number(cfg, "clips", 1)
    whole_number(cfg, "listen", 0)
    names = plain(cfg.representations)
    if names is not None and not isinstance(names, list):
        raise UserError(f"representations={names}: give a list, as in [mel,latent_audio]")
    named = shipped(names) if names else []
    trained = [of_run(run) for run in paths_of(plain(cfg.runs))]
    for candidate in [*named, *trained]:
        candidate.build(cfg.data)
    candidates = [*(named or shipped()), *trained]
    folder = Path(cfg.out or HydraConfig.get().runtime.output_dir).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    root = prepared(cfg)
    with Bar("round trips", len(candidates), console=ERR) as bar:
        for place, candidate in enumerate(candidates):
            compare(candidate, place, cfg.data, root, folder, cfg.clips, cfg.listen)
            bar.advance()
    say((folder / "table.md").read_text(encoding="utf-8"))
    say(f"{folder / 'table.md'}; to hear: {folder / 'listen' / 'index.html'}")
