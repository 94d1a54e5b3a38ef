"""``sample.py``: prompts in, a folder of clips with pictures and a page out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from glissando.cli.progress import Bar, say
from glissando.errors import UserError


def sample(cfg: DictConfig) -> None:
    """Generates what ``cfg`` asks for and writes it to ``cfg.out`` or the run folder."""
    prompts = prompts_of(cfg.prompt, cfg.prompt_file)
    for name in ("n", "seed"):
        if not isinstance(cfg[name], int):
            raise UserError(f"{name} must be a whole number, not {cfg[name]}")
    if cfg.n < 1:
        raise UserError(f"n must be at least 1, not {cfg.n}")
    from glissando.audio import read_audio
    from glissando.checkpoints.instantiate import instantiate
    from glissando.gallery import write
    from glissando.generation import Generated, load

    model = load(cfg.ckpt, cfg.device)
    init = None
    if cfg.init_audio is not None:
        import torch

        representation = model.representation
        wave, _ = read_audio(
            Path(cfg.init_audio).expanduser(),
            representation.sample_rate,
            representation.audio_channels,
        )
        init = torch.from_numpy(wave)
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    sampler, guidance = instantiate(settings["sampler"]), instantiate(settings["guidance"])
    folder = _folder(cfg.out or HydraConfig.get().runtime.output_dir)
    every = [prompt for prompt in prompts for _ in range(cfg.n)]
    with Bar(f"sampling {len(every)} clips", sampler.steps * len(every)) as bar:
        clips = model.generate(
            every, cfg.seconds, cfg.seed, sampler, guidance, cfg.negative_prompt, cfg.batch_size,
            settings["attributes"], init, cfg.strength, lambda done, _: bar.update(done),
        )  # fmt: skip
    recipe = _recipe(settings, model.name)
    clips = [
        Generated(clip.wave, clip.sample_rate, clip.prompt, {**clip.facts, **recipe})
        for clip in clips
    ]
    with Bar("writing", len(clips)) as bar:
        written = write(folder, clips, title="glissando", progress=lambda done: bar.update(done))
    for path, clip in zip(written, clips, strict=True):
        say(f"{path}  {clip.prompt}")
    say(f"listen: {folder / 'index.html'}")


def prompts_of(prompt: Any, prompt_file: Any) -> list[str]:
    """The prompts of a command line; the examples, saying so, if it has none.

    Raises UserError when both are given or the file is missing, empty or not text.
    """
    if prompt is not None and prompt_file is not None:
        raise UserError("give prompt= or prompt_file=, not both")
    if prompt is not None:
        return [str(prompt)]
    if prompt_file is not None:
        return _lines(Path(str(prompt_file)).expanduser())
    from glissando.examples import EXAMPLES

    say("no prompt= given; playing these examples:")
    for example in EXAMPLES:
        say(f"  {example}")
    return list(EXAMPLES)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"prompt_file={path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"prompt_file={path} cannot be read as UTF-8 text ({error})") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError(f"prompt_file={path} has no line with a prompt")
    return lines


def _folder(out: str) -> Path:
    """The folder of the clips, made now: what cannot be written is said before the work."""
    folder = Path(out).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise UserError(f"out={out} cannot be a folder ({error.strerror})") from None
    return folder


def _recipe(settings: dict[Any, Any], model: str) -> dict[str, Any]:
    """What besides prompt and seed decides a clip, for its json."""
    from glissando import __version__

    kept = ("sampler", "guidance", "attributes", "init_audio")
    recipe = {name: settings[name] for name in kept if settings[name]}
    if settings["init_audio"] is not None:
        recipe["strength"] = settings["strength"]
    return {"ckpt": str(settings["ckpt"]), "file": model, **recipe, "glissando": __version__}
