"""``sample.py``: prompts in, a folder of clips with pictures and a page out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from glissando.errors import UserError
from glissando.progress import Bar, say
from glissando.spans import spans_of

if TYPE_CHECKING:
    from torch import Tensor

    from glissando.generation import Generator


def sample(cfg: DictConfig) -> None:
    """Generates what ``cfg`` asks for and writes it to ``cfg.out`` or the run folder."""
    settings = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(settings, dict)
    _check_numbers(settings)
    make, strength = edit_of(settings)
    prompts = prompts_of(cfg.prompt, cfg.prompt_file)
    settings["cascade"] = paths_of(settings["cascade"])
    from glissando.build import cascade
    from glissando.checkpoints.instantiate import instantiate
    from glissando.gallery import write
    from glissando.generation import Generated, load

    sampler, guidance = instantiate(settings["sampler"]), instantiate(settings["guidance"])
    target = instantiate(settings["ditto"]) if settings["ditto"] else None
    model = load(cfg.ckpt, cfg.device)
    widen = cascade(settings["cascade"], model.device)
    form = model.representation
    rate, _ = widen.check(form.sample_rate, form.audio_channels)
    init = _sound(cfg.init_audio or cfg.extend, model)
    followed = _sound(cfg.control, model)
    attributes, seconds = settings["attributes"], cfg.seconds
    if followed is not None:
        attributes = {**model.follow(followed, settings["follow"]), **attributes}
        if seconds is None and init is None:
            seconds = followed.shape[-1] / model.representation.sample_rate
    folder = _folder(cfg.out or HydraConfig.get().runtime.output_dir)
    every = [prompt for prompt in prompts for _ in range(cfg.n)]
    each = sampler.steps + (target.work(sampler.steps) if target else 0)

    def reached() -> str:
        return f"loss {target.loss:.3g}" if target else ""

    with Bar(f"sampling {len(every)} clips", each * len(every)) as bar:
        clips = model.generate(
            every, seconds, cfg.seed, sampler, guidance, cfg.negative_prompt, cfg.batch_size,
            attributes, init, strength,
            lambda done, _: bar.update(done, facts=reached), make, target,
        )  # fmt: skip
    recipe = _recipe({**settings, "strength": strength}, model)
    clips = [
        Generated(widen(clip.wave), rate, clip.prompt, {**clip.facts, **recipe}) for clip in clips
    ]
    with Bar("writing", len(clips)) as bar:
        written = write(folder, clips, title="glissando", progress=lambda done: bar.update(done))
    for path, clip in zip(written, clips, strict=True):
        say(f"{path}  {clip.prompt}")
    say(f"listen: {folder / 'index.html'}")


def _check_numbers(settings: dict[Any, Any]) -> None:
    for name in ("n", "seed"):
        if not isinstance(settings[name], int):
            raise UserError(f"{name} must be a whole number, not {settings[name]}")
    for name in ("seconds", "strength"):
        if type(settings[name]) not in (int, float, type(None)):
            raise UserError(f"{name} must be a number, not {settings[name]}")
    if abs(settings["seed"]) >= 2**62:
        raise UserError(f"seed must be below 2^62, not {settings['seed']}")
    if settings["n"] < 1:
        raise UserError(f"n must be at least 1, not {settings['n']}")


def edit_of(settings: dict[Any, Any]) -> tuple[list[tuple[float, float]] | None, float]:
    """What of ``init_audio`` or ``extend`` is made anew, as ``generate`` takes it: make, strength.

    Raises UserError for keys that do not go together and for spans that cannot be read.
    """
    given = {name for name in ("init_audio", "inpaint", "extend") if settings[name] is not None}
    strength = settings["strength"]
    if settings["follow"] is not None and settings["control"] is None:
        raise UserError("follow= needs control=, the sound that is followed")
    if given >= {"init_audio", "extend"}:
        raise UserError("give init_audio= or extend=, not both")
    if "inpaint" in given and "init_audio" not in given:
        raise UserError("inpaint= needs init_audio=, the sound of which it makes a part anew")
    if strength is not None and "init_audio" not in given:
        raise UserError("strength= needs init_audio=, the sound that it starts from")
    if "extend" in given:
        if settings["seconds"] is None:
            raise UserError("extend= needs seconds=, the length of the result with its beginning")
        return [], 1.0
    if "inpaint" in given:
        return spans_of(settings["inpaint"]), 1.0 if strength is None else strength
    return None, 0.6 if strength is None else strength


def paths_of(cascade: Any) -> list[str]:
    """The paths of ``one``, of ``[one,two]`` as text, or of a list of texts; none of None."""
    if cascade is None:
        return []
    if isinstance(cascade, list):
        return [str(path) for path in cascade]
    text = str(cascade).strip()
    if not (text.startswith("[") and text.endswith("]")):
        return [text]
    return [path.strip() for path in text[1:-1].split(",") if path.strip()]


def _sound(file: str | None, model: Generator) -> Tensor | None:
    """The audio file at the model's rate and channels, (A, L)."""
    if file is None:
        return None
    import torch

    from glissando.audio import read_audio

    form = model.representation
    wave, _ = read_audio(Path(file).expanduser(), form.sample_rate, form.audio_channels)
    return torch.from_numpy(wave)


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


def _recipe(settings: dict[Any, Any], model: Generator) -> dict[str, Any]:
    """What besides prompt and seed decides a clip, for its json."""
    from glissando import __version__

    kept = (
        "sampler", "guidance", "attributes", "init_audio", "inpaint", "extend", "ditto", "cascade",
        "control", "follow",
    )  # fmt: skip
    recipe = {name: settings[name] for name in kept if settings[name]}
    if settings["init_audio"] is not None:
        recipe["strength"] = settings["strength"]
    if model.companions:
        recipe["companions"] = {name: other.name for name, other in model.companions.items()}
    return {"ckpt": str(settings["ckpt"]), "file": model.name, **recipe, "glissando": __version__}
