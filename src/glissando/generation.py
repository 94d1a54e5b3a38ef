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

from glissando.conditioners import Conditioners
from glissando.conditioning.keep import keeping
from glissando.diffusion.denoiser import Denoiser
from glissando.errors import UserError
from glissando.guidance import ClassifierFree, Guidance
from glissando.representations.base import Representation
from glissando.samplers.base import Sampler
from glissando.samplers.euler import Euler
from glissando.samplers.noise import ClipNoise

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
    the model.
    """

    representation: Representation
    conditioners: Conditioners
    denoiser: Denoiser
    window: float | None = None
    seen: Mapping[str, Sequence[float]] = field(default_factory=dict)
    name: str = ""

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        seconds: float = 6.0,
        seed: int = 0,
        sampler: Sampler | None = None,
        guidance: Guidance | None = None,
        negative: str | None = None,
        batch_size: int = 8,
        attributes: Mapping[str, Any] | None = None,
        init: Tensor | None = None,
        strength: float = 1.0,
        progress: Progress | None = None,
    ) -> list[Generated]:
        """One clip a prompt; clip i has the seed ``seed + i``.

        Args:
            prompts: captions; "" is the unconditional model.
            seconds: length of the clips; what the model makes beyond it is cut off.
            sampler, guidance: Euler of 50 steps and classifier-free guidance 4 by default.
            negative: what guidance moves away from, in place of the empty caption.
            batch_size: clips at once on a GPU. On a processor clips go one by one, which makes
                a clip the same to the bit whatever surrounds it.
            attributes: further conditions, such as {"bpm": 90}.
            init: waveform (A, L) to start from, at ``strength`` in [0, 1] (see ``Sampler``).
            progress: called with (steps done, steps in all).

        Raises UserError for a length that is not positive, and where sampling diverged.
        """
        if not 0 < seconds < float("inf"):
            raise UserError(f"seconds must be above 0 and finite, not {seconds}")
        sampler, guidance = sampler or Euler(), guidance or ClassifierFree()
        chunk = 1 if self.device.type == "cpu" else batch_size
        total, done = sampler.steps * len(prompts), 0
        clips: list[Generated] = []
        for first in range(0, len(prompts), chunk):
            some = list(prompts[first : first + chunk])
            seeds = [seed + first + row for row in range(len(some))]

            def step(now: int, of: int, rows: int = len(some), before: int = done) -> None:
                if progress is not None:
                    progress(before + sampler.steps * rows * now // of, total)

            waves = self._batch(
                some, seeds, seconds, sampler, guidance, negative, attributes or {}, init,
                strength, step,
            )  # fmt: skip
            done += sampler.steps * len(some)
            for wave, prompt, own in zip(waves, some, seeds, strict=True):
                facts = {"seed": own, "seconds": seconds, "negative_prompt": negative}
                clips.append(Generated(wave, self.representation.sample_rate, prompt, facts))
        return clips

    def _batch(
        self, prompts: list[str], seeds: list[int], seconds: float, sampler: Sampler,
        guidance: Guidance, negative: str | None, attributes: Mapping[str, Any],
        init: Tensor | None, strength: float, progress: Progress,
    ) -> Tensor:  # fmt: skip
        """Waveforms (B, A, L) of one batch."""
        representation, rate = self.representation, self.representation.sample_rate
        asked = max(1, round(seconds * rate))
        # A model trained on windows makes whole windows: shorter clips are cut from one.
        length = max(asked, round((self.window or 0) * rate))
        frames = representation.frames(length)
        rows = [{**self._timing(length / rate), **attributes, "caption": p} for p in prompts]
        condition = self.conditioners(rows, frames=frames).move(self.device)
        negatives = None if negative is None else [negative] * len(prompts)
        null = self.conditioners.null(len(prompts), negatives, like=condition).move(self.device)
        shape = (representation.channels, representation.freqs, frames)
        noise = ClipNoise(seeds, shape, self.device)
        start = None
        if init is not None:
            wave = torch.nn.functional.pad(init, (0, max(0, length - init.shape[-1])))[..., :length]
            z = representation.normalize(representation.encode(wave[None].to(self.device)))
            start = z.expand(len(prompts), *shape)
        with keeping():
            z = sampler(
                guidance(self.denoiser, condition, null), self.denoiser.path, noise(), noise,
                progress, start, strength,
            )  # fmt: skip
        return representation.decode(representation.denormalize(z), length)[..., :asked].cpu()

    def _timing(self, seconds: float) -> dict[str, float]:
        """seconds_start and seconds_total, kept inside what training has shown."""
        timing = {"seconds_start": 0.0, "seconds_total": seconds}
        for name, value in timing.items():
            low, high = self.seen.get(name, (value, value))
            timing[name] = min(max(value, low), high)
        return timing


def load(name: str = "demo", device: str = "auto") -> Generator:
    """The model of a checkpoint: a shipped name, ``last``, a run folder or a file.

    ``device`` "auto" is the GPU where there is one. Raises UserError when it is not there, is not
    a diffusion model, or cannot be read.
    """
    from glissando.build import complete, denoising, rebuilt
    from glissando.checkpoints.files import locate, read
    from glissando.cli.conf import pretrained_dir

    stored = read(locate(name, pretrained_dir()))
    if stored.kind != "diffusion":
        raise UserError(
            f"ckpt={name} is an {stored.kind} checkpoint, which makes no music by itself: train a "
            f"model on it (python train.py model=dit representation.autoencoder={name})"
        )
    representation = rebuilt(stored.facts["representation"])
    parts = denoising(stored.facts["config"], representation)
    trained = torch.nn.ModuleDict({"conditioners": parts.conditioners, "denoiser": parts.denoiser})
    whole = torch.nn.ModuleDict({"representation": representation, "trained": trained})
    whole.load_state_dict(complete(stored))
    whole.eval().requires_grad_(False).to(_device(device))
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
