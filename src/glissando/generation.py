"""Captions to sound: a trained model as one object.

``glissando.load("demo").generate(["a slow Irish air on flute"], seconds=6, seed=0)``
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from glissando.condition import Condition
from glissando.conditioners import Conditioners, TextConditioner
from glissando.conditioning.keep import keeping
from glissando.diffusion.denoiser import Denoiser
from glissando.diffusion.estimate import Denoise
from glissando.ditto.base import Sound, Target
from glissando.ditto.search import Search
from glissando.ditto.through import check_differentiable, checkpointed, surrogate
from glissando.editing import Edit, edit
from glissando.errors import UserError
from glissando.guidance import ClassifierFree, Companion, Guidance
from glissando.networks.fold import fold
from glissando.representations.base import Representation
from glissando.samplers.base import Sampler
from glissando.samplers.editing import inpaint
from glissando.samplers.euler import Euler
from glissando.samplers.noise import ClipNoise
from glissando.vocoders.widening import Widening

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Generated:
    """One clip: ``wave`` (A, L) float32 on the CPU, and all that is needed to make it again."""

    wave: Tensor
    sample_rate: int
    prompt: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Generator:
    """A trained diffusion model.

    ``window`` is the length in seconds of the clips it was trained on; ``seen`` maps numeric
    attributes to the range they had in training, because a number outside it means nothing to
    the model. ``companions`` are the other models that guidance or ditto has asked for, by name.
    """

    representation: Representation
    conditioners: Conditioners
    denoiser: Denoiser
    window: float | None = None
    seen: Mapping[str, Sequence[float]] = field(default_factory=dict)
    name: str = ""
    companions: dict[str, Generator] = field(default_factory=dict, repr=False)

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        seconds: float | None = None,
        seed: int = 0,
        sampler: Sampler | None = None,
        guidance: Guidance | None = None,
        negative: str | None = None,
        batch_size: int = 8,
        attributes: Mapping[str, Any] | None = None,
        init: Tensor | None = None,
        strength: float = 1.0,
        progress: Progress | None = None,
        make: Sequence[tuple[float, float]] | None = None,
        ditto: Target | None = None,
    ) -> list[Generated]:
        """One clip a prompt; clip i has the seed ``seed + i``.

        Args:
            prompts: captions; "" is the unconditional model.
            seconds: length of the clips, by default that of ``init`` or 6; what the model makes
                beyond it is cut off.
            sampler, guidance: Euler of 50 steps and classifier-free guidance 4 by default.
            negative: what guidance moves away from, in place of the empty caption.
            batch_size: clips at once on a GPU. On a processor clips go one by one, which makes
                a clip the same to the bit whatever surrounds it.
            attributes: further conditions, such as {"bpm": 90}.
            init: waveform (A, L) to start from, at ``strength`` in [0, 1] (see ``Sampler``), cut
                or followed by silence to the length of the clips.
            progress: called with (steps done, steps in all).
            make: spans (from, to) in seconds of ``init``. They are made anew and the rest of the
                waveform is kept, but for a cross-fade of ``editing.FADE`` beside each span; what
                lies beyond ``init`` is made as well, so that ``[]`` continues it.
            ditto: a target for which each clip's noise is optimized first; ``facts["search"]`` says
                what came of it.

        Raises UserError for a length that is not positive, for spans that do not fit (see
        ``editing.edit``), for a negative prompt or attribute that nothing reads, for a target that
        cannot be sought, and where sampling diverged.
        """
        rate = self.representation.sample_rate
        if seconds is None:
            seconds = 6.0 if init is None else init.shape[-1] / rate
        if not 0 < seconds < float("inf"):
            raise UserError(f"seconds must be above 0 and finite, not {seconds}")
        sampler, guidance = sampler or Euler(), guidance or ClassifierFree()
        self._check_negative(negative, guidance)
        self._check_attributes(attributes or {})
        asked = max(1, round(seconds * rate))
        # A model trained on windows makes whole windows: shorter clips are cut from one.
        length = max(asked, round((self.window or 0) * rate))
        change = None if make is None else edit(init, make, asked, rate, strength)
        start = None if init is None else self._latent(init, length)
        if ditto is not None:
            check_differentiable(sampler, guidance, None if init is None else strength)
        sound = Sound(rate, self.representation.audio_channels, asked)
        search = None if ditto is None else Search(ditto, sound, self.device)
        each = sampler.steps + (0 if ditto is None else ditto.work(sampler.steps))
        chunk = 1 if self.device.type == "cpu" else batch_size
        total, done = each * len(prompts), 0

        def heard(waves: Tensor) -> Tensor:
            waves = waves[..., :asked]
            return waves if change is None else change.splice(waves)

        clips: list[Generated] = []
        for first in range(0, len(prompts), chunk):
            some = list(prompts[first : first + chunk])
            seeds = [seed + first + row for row in range(len(some))]

            def step(now: int, of: int, rows: int = len(some), before: int = done) -> None:
                if progress is not None:
                    progress(before + each * rows * now // of, total)

            if init is not None and strength == 0:  # not its encoded copy
                waves = pad(init, (0, asked - init.shape[-1])).expand(len(some), -1, -1)
                sampler.evaluations = 0
                step(1, 1)
            else:
                waves = self._batch(
                    some, seeds, length, sampler, guidance, negative, attributes or {}, start,
                    strength, change, step, search, heard,
                )  # fmt: skip
            done += each * len(some)
            waves = heard(waves)
            told = [{}] * len(some) if search is None else search.told(waves)
            for wave, prompt, own, found in zip(waves, some, seeds, told, strict=True):
                facts = {"seed": own, "seconds": seconds, "negative_prompt": negative,
                         "evaluations": sampler.evaluations, **found}  # fmt: skip
                clips.append(Generated(wave, rate, prompt, facts))
        return clips

    def _batch(
        self, prompts: list[str], seeds: list[int], length: int, sampler: Sampler,
        guidance: Guidance, negative: str | None, attributes: Mapping[str, Any],
        start: Tensor | None, strength: float, change: Edit | None, progress: Progress,
        search: Search | None = None, heard: Callable[[Tensor], Tensor] = lambda waves: waves,
    ) -> Tensor:  # fmt: skip
        """Waveforms (B, A, length) of one batch; ``start`` is (1, C, F, T).

        ``search`` first looks for the noise, by what is ``heard`` of the waveforms.
        """
        representation, denoiser = self.representation, self.denoiser
        shape = (representation.channels, representation.freqs, representation.frames(length))
        if start is not None:
            start = start.expand(len(prompts), *shape)

        def denoise_of(model: Generator) -> Denoise:
            return self._denoise(
                model, prompts, length, guidance, negative, attributes, start, change
            )

        def wave_of(z: Tensor) -> Tensor:
            return representation.decode(representation.denormalize(z), length)

        noise = ClipNoise(seeds, shape, self.device)
        first, spent = noise(), 0
        if search is not None:
            target = search.target
            model = self if target.ckpt is None else self.companion(target.ckpt, "ditto.ckpt")
            denoise, quick = checkpointed(denoise_of(model)), surrogate(sampler, target.steps)
            spent = target.work(sampler.steps)

            def play(x: Tensor) -> Tensor:
                fresh = ClipNoise(seeds, shape, self.device)
                fresh()  # the first is x; what the sampler adds is the same in each iteration
                z = quick(denoise, model.denoiser.path, x, fresh, None, start, strength)
                return heard(wave_of(z))

            first = search(
                play, first, lambda done: progress(done * quick.steps, spent + sampler.steps)
            )

        def step(now: int, of: int) -> None:
            progress(spent * of + sampler.steps * now, (spent + sampler.steps) * of)

        with keeping():
            z = sampler(denoise_of(self), denoiser.path, first, noise, step, start, strength)
        return wave_of(z).cpu()

    def _denoise(
        self, model: Generator, prompts: list[str], length: int, guidance: Guidance,
        negative: str | None, attributes: Mapping[str, Any], start: Tensor | None,
        change: Edit | None,
    ) -> Denoise:  # fmt: skip
        """``model``, this one or a companion, guided for these clips; ``start`` is (B, C, F, T)."""
        condition = model.condition(prompts, length, attributes)
        negatives = None if negative is None else [negative] * len(prompts)
        null = model.conditioners.null(len(prompts), negatives, like=condition).move(self.device)

        def companion(name: str) -> Companion:
            other = self.companion(name, "guidance.ckpt")
            return Companion(other.denoiser, other.condition(prompts, length, attributes))

        denoise = guidance.bind(companion)(model.denoiser, condition, null)
        if start is None or change is None:
            return denoise
        make = change.frames(self.representation.hop, start.shape[-1])
        return inpaint(denoise, model.denoiser.path, start, make)

    def follow(self, wave: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """The attributes with which a clip follows a sound: ``generate(…, attributes=…)``.

        Args:
            wave: (A, L) at the representation's rate. Clips longer than it are free after its end.
            names: in what, such as ["melody"]; by default in all that the model can.

        Raises UserError for what this model cannot follow.
        """
        controls = self.conditioners.controls
        if not controls:
            raise UserError(
                "control= has no effect on this model: train one with conditioner=controls "
                "conditioning=[adaln_zero,channel_concat]"
            )
        names = list(controls) if names is None else names
        if isinstance(names, str) or not names or set(names) - set(controls):
            raise UserError(f"follow={names} must be a list of some of {list(controls)}")
        rate = self.representation.sample_rate
        return {name: controls[name](wave, rate) for name in names}

    def condition(
        self, prompts: Sequence[str], length: int, attributes: Mapping[str, Any]
    ) -> Condition:
        """What this model is told of clips of ``length`` samples."""
        timing = self._timing(length / self.representation.sample_rate)
        rows = [{**timing, **attributes, "caption": prompt} for prompt in prompts]
        return self.conditioners(rows, self.representation.frames(length)).move(self.device)

    def companion(self, name: str, flag: str) -> Generator:
        """Another checkpoint on these latents, read once; ``name`` as in ``load``.

        Raises UserError, naming ``flag``, where there is none or it has other latents.
        """
        if name not in self.companions:
            other = load(name, str(self.device), flag)
            a, b = (model.representation.state_dict() for model in (self, other))
            if a.keys() != b.keys() or not all(torch.equal(a[key], b[key]) for key in a):
                raise UserError(
                    f"{flag}={name} was trained on another autoencoder than {self.name}: give one "
                    "with the same representation.autoencoder="
                )
            other.representation = self.representation  # held once
            self.companions[name] = other
        return self.companions[name]

    def _latent(self, wave: Tensor, length: int) -> Tensor:
        """(A, L), cut or followed by silence to ``length`` -> normalized (1, C, F, T)."""
        wave = pad(wave, (0, length - wave.shape[-1]))
        return self.representation.normalize(self.representation.encode(wave[None].to(self.device)))

    def _check_negative(self, negative: str | None, guidance: Guidance) -> None:
        if not (negative or "").strip():  # blank, it is the empty caption
            return
        if not guidance.uses_null:
            raise UserError(
                "negative_prompt= has no effect on this guidance: use guidance=cfg with a "
                "guidance.scale above 1, or leave negative_prompt= out"
            )
        if not any(isinstance(part, TextConditioner) for part in self.conditioners.parts.values()):
            raise UserError("negative_prompt= has no effect on this model: it reads no text")

    def _check_attributes(self, attributes: Mapping[str, Any]) -> None:
        read = [part.attribute for part in self.conditioners.parts.values()]
        if unread := [name for name in attributes if name not in read]:
            raise UserError(f"attributes {unread} have no effect on this model: it reads {read}")

    def _timing(self, seconds: float) -> dict[str, float]:
        """seconds_start and seconds_total, kept inside what training has shown."""
        timing = {"seconds_start": 0.0, "seconds_total": seconds}
        for name, value in timing.items():
            low, high = self.seen.get(name, (value, value))
            timing[name] = min(max(value, low), high)
        return timing


def load(name: str = "demo", device: str = "auto", flag: str = "ckpt") -> Generator:
    """The model of a checkpoint: a shipped name, ``last``, a run folder or a file.

    ``device`` "auto" is the GPU where there is one. Raises UserError, naming ``flag``, when it is
    not there, is not a diffusion model, or cannot be read.
    """
    from glissando.build import complete, denoising, rebuilt
    from glissando.checkpoints.files import locate, read
    from glissando.cli.conf import pretrained_dir

    stored = read(locate(name, pretrained_dir(), flag=flag))
    if stored.kind != "diffusion":
        use = f"train a model on it (python train.py model=dit representation.{stored.kind}={name})"
        if stored.kind == Widening.kind:
            use = f"widen a model's clips by it (python sample.py cascade={name})"
        raise UserError(
            f"{flag}={name} is {'an' if stored.kind[0] in 'aeiou' else 'a'} {stored.kind} "
            f"checkpoint, which makes no music by itself: {use}"
        )
    representation = rebuilt(stored.facts["representation"])
    parts = denoising(stored.facts["config"], representation)
    trained = torch.nn.ModuleDict({"conditioners": parts.conditioners, "denoiser": parts.denoiser})
    whole = torch.nn.ModuleDict({"representation": representation, "trained": trained})
    whole.load_state_dict(complete(stored))
    fold(whole.eval().requires_grad_(False)).to(_device(device))
    data = stored.facts.get("data", {})
    return Generator(
        representation, parts.conditioners, parts.denoiser, data.get("window"),
        data.get("seen", {}), name=str(Path(stored.path)),
    )  # fmt: skip


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # what torch raises where it was built without
        reason = str(error).partition("\n")[0]
        raise UserError(f"device={name} is not there: use auto, cpu or cuda ({reason})") from None
