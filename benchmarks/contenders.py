"""A DiT of ours and one of diffusers' on the same batch, and what lets them take turns."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from measure import composed, seconds_of
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from glissando.build import plain
from glissando.checkpoints.instantiate import instantiate
from glissando.condition import Condition, Entry, Vector
from glissando.condition import Sequence as Tokens
from glissando.conditioning.routing import Specs

CHANNELS, TIMING = 64, 128  # C of the latent; D of a time that a conditioner embeds
TIMES = ["seconds_start", "seconds_total"]
# Text alone in cross-attention, so that its tokens are the text's and timing enters once.
STABLE_AUDIO = [
    "model=dit_stable_audio_open", "model.checkpointing=false", "conditioning=stable_audio",
    "conditioning.cross_attention.reads=[text]",
]  # fmt: skip


class Shape(NamedTuple):
    """Of a network and its batch."""

    width: int = 512
    depth: int = 8
    heads: int = 8
    batch: int = 4
    frames: int = 256
    tokens: int = 64  # of text

    def __str__(self) -> str:
        return (
            f"width {self.width}, depth {self.depth}, heads {self.heads}, latents "
            f"({self.batch}, {CHANNELS}, 1, {self.frames}), {self.tokens} text tokens"
        )


class Given(NamedTuple):
    """What a network is called with, and what it is to answer: z and target (B, C, 1, T)."""

    z: Tensor
    noise: Tensor
    condition: Condition
    target: Tensor

    @classmethod
    def draw(cls, shape: Shape, device: str) -> Given:
        """At random; the text is as wide as the network and all its tokens are real."""
        batch, tokens = shape.batch, shape.tokens
        real = torch.ones(batch, tokens, dtype=torch.bool)
        entries: dict[str, Entry] = {
            "text": Tokens(torch.randn(batch, tokens, shape.width), real),
            "text_pooled": Vector(torch.randn(batch, shape.width)),
            **{name: Vector(torch.randn(batch, TIMING)) for name in TIMES},
        }
        z, target = torch.randn(2, batch, CHANNELS, 1, shape.frames, device=device)
        noise = torch.rand(batch, device=device)
        return cls(z, noise, Condition(entries).move(device), target)


def config(shape: Shape, *overrides: str) -> dict[str, Any]:
    """train.py's, with a DiT of ``shape``."""
    size = [f"model.{name}={getattr(shape, name)}" for name in ("width", "depth", "heads")]
    settings = ["name=benchmark", "conditioner.text.cache=null"]
    return plain(composed("train", *settings, *overrides, *size))


def dit(cfg: dict[str, Any], given: Given, mechanisms: Specs | None = None) -> nn.Module:
    """Our network as ``cfg`` has it, or with other ``mechanisms`` than those of the config."""
    if mechanisms is None:
        mechanisms = instantiate(cfg["conditioning"])
    sizes = given.condition.sizes
    network = instantiate(cfg["model"])(channels=CHANNELS, sizes=sizes, mechanisms=mechanisms)
    with torch.no_grad():  # off the zero start, where much of the arithmetic is with zeros
        for weight in network.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    return network.to(given.z.device)


class Contender:
    """A network ready to answer and to be trained, at a trainer's ``precision``.

    Args:
        call: the network's answer (B, C, 1, T) to ``given``.
        cfg: names the optimizer.
    """

    def __init__(
        self, network: nn.Module, call: Callable[[], Tensor], given: Given, cfg: dict[str, Any]
    ) -> None:
        self.network, self.call, self.given = network, call, given
        trained = [p for p in network.parameters() if p.requires_grad]
        self._optimizer: torch.optim.Optimizer = instantiate(cfg["optimizer"])(trained)

    def _answer(self, precision: str) -> Tensor:
        mixed = precision == "bf16-mixed"
        with torch.autocast(self.given.z.device.type, torch.bfloat16, enabled=mixed):
            return self.call()

    def forward(self, precision: str = "32-true") -> None:
        """The answer alone, without gradients."""
        with torch.no_grad():
            self._answer(precision)

    def step(self, precision: str = "32-true") -> None:
        """A training step: answer, squared error, gradients and new weights."""
        (self._answer(precision).float() - self.given.target).square().mean().backward()
        self._optimizer.step()
        self._optimizer.zero_grad()

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.network.parameters())

    @property
    def flop(self) -> int:
        """Products of one answer to the whole batch, attention counted as plain ones."""
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            self.forward()
        return counter.get_total_flops()


def ours(cfg: dict[str, Any], given: Given, mechanisms: Specs | None = None) -> Contender:
    """The DiT of a config; see ``dit``."""
    network = dit(cfg, given, mechanisms)
    return Contender(network, lambda: network(given.z, given.noise, given.condition), given, cfg)


def theirs(shape: Shape, cfg: dict[str, Any], given: Given) -> Contender:
    """diffusers' StableAudioDiTModel, of ``shape`` and given the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its own imports
        from diffusers.models.embeddings import get_1d_rotary_pos_embed
        from diffusers.models.transformers import stable_audio_transformer

    device = given.z.device
    kind: Any = stable_audio_transformer.StableAudioDiTModel
    network = kind(
        sample_size=shape.frames, in_channels=CHANNELS, out_channels=CHANNELS,
        num_layers=shape.depth, attention_head_dim=shape.width // shape.heads,
        num_attention_heads=shape.heads, num_key_value_attention_heads=shape.heads,
        cross_attention_dim=shape.width, cross_attention_input_dim=shape.width,
        global_states_input_dim=len(TIMES) * TIMING,
    ).to(device)  # fmt: skip
    turned, frames = cfg["model"]["rotary_dim"], shape.frames + 1  # and the token that is prepended
    table = get_1d_rotary_pos_embed(turned, frames, use_real=True, repeat_interleave_real=False)
    positions = tuple(part.to(device) for part in table)
    text: Any = given.condition["text"].value
    times = torch.cat([given.condition[name].value for name in TIMES], dim=1)[:, None]

    def call() -> Tensor:
        answer = network(given.z[:, :, 0], given.noise, text, times, positions, return_dict=False)
        return answer[0].unsqueeze(2)

    return Contender(network, call, given, cfg)


def in_turn(
    works: Mapping[Any, Callable[[], object]], runs: int, device: str
) -> dict[Any, list[float]]:
    """Seconds of each of ``runs`` rounds in which every work is done once; one more to warm up.

    Whatever else the machine does falls on all alike, and ratios may be taken round by round. Each
    round has an order of its own, because what a work finds in the allocator is what the one before
    has left there: a training step after a forward pass was a fifth slower than after another
    step. On a processor it is the time that this process had of it: with one thread that is what
    the clock shows when nobody else wants the core.
    """
    took: dict[Any, list[float]] = {name: [] for name in works}
    order, turns = list(works), random.Random(0)
    for _ in range(runs + 1):
        for name in order:
            took[name].append(_once(works[name], device))
        turns.shuffle(order)
    return {name: seconds[1:] for name, seconds in took.items()}


def _once(work: Callable[[], object], device: str) -> float:
    if device != "cpu":
        return seconds_of(work, 1, warm=0)[0]
    began = time.process_time()
    work()
    return time.process_time() - began


def over(took: list[float], base: list[float]) -> list[float]:
    """The ratios, round by round."""
    return [a / b for a, b in zip(took, base, strict=True)]
