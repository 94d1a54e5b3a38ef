"""What conditioning does not cost: work that is done once or not at all."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from alive import Alive
from contenders import (
    STABLE_AUDIO,
    TIMES,
    Contender,
    Given,
    Shape,
    config,
    dit,
    in_turn,
    ours,
    over,
)
from measure import Row, composed
from torch import Tensor

from glissando.build import plain
from glissando.checkpoints.instantiate import instantiate
from glissando.condition import Condition
from glissando.conditioning import attend
from glissando.conditioning.cross_attention import CrossAttend
from glissando.conditioning.keep import keeping
from glissando.guidance.classifier_free import ClassifierFree
from glissando.samplers.noise import ClipNoise
from glissando.text_encoders import MiniLM, Text, TextCache


@torch.no_grad()
def keys_kept(shape: Shape, runs: int, device: str) -> list[Row]:
    """One guided clip, its keys and values made at each step or once."""
    shape = shape._replace(batch=1)
    given, null = Given.draw(shape, device), Given.draw(shape, device).condition
    cfg = config(shape, *STABLE_AUDIO)
    denoiser = instantiate(cfg["objective"]).denoiser(dit(cfg, given))
    sampler = instantiate(plain(composed("sample", "sampler=euler", "sampler.steps=10").sampler))
    made = 0

    def count(*_: object) -> None:
        nonlocal made
        made += 1

    for module in denoiser.modules():
        if isinstance(module, CrossAttend):
            module.key_value.register_forward_hook(count)

    def clip(context: Callable[[], Any]) -> None:
        denoise = ClassifierFree()(denoiser, given.condition, null)
        noise = ClipNoise([0], given.z.shape[1:], device)
        with context():
            sampler(denoise, denoiser.path, noise(), noise)

    works = {"at each step": partial(clip, nullcontext), "once a clip": partial(clip, keeping)}
    projections = {}
    for name, work in works.items():
        made = 0
        work()
        projections[name] = made
    took = in_turn(works, runs, device)
    return [
        {
            "keys and values": name, "projections": projections[name], "device": device,
            "steps": sampler.steps, "seconds": [s / sampler.steps for s in took[name]],
            "ratio": over(took[name], took["at each step"]),
        }
        for name in works
    ]  # fmt: skip


class Squares(Alive):
    """Counts besides how many tensors (..., N, N) were made, N being ``tokens``."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.shape, self.made = (tokens, tokens), 0

    def _add(self, tensor: Tensor) -> None:
        whole = tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()
        self.made += whole and tensor.shape[-2:] == self.shape  # not whole: expanded, so a view
        super()._add(tensor)


def attention(shape: Shape, runs: int, device: str) -> list[Row]:
    """One clip through two blocks and back, for clips of one to eight times the length."""
    rows: list[Row] = []
    for padded, times in [(False, 1), (False, 2), (False, 4), (False, 8), (True, 8)]:
        size = shape._replace(batch=1, depth=2, frames=times * shape.frames)
        given, cfg = Given.draw(size, device), config(size, *STABLE_AUDIO)
        mask = torch.arange(size.frames, device=device)[None] < size.frames * 3 // 4
        network = dit(cfg, given)
        arguments = (given.z, given.noise, given.condition, mask if padded else None)
        contender = Contender(network, partial(network, *arguments), given, cfg)
        took = in_turn({"step": contender.step}, min(runs, 3), device)
        tokens = size.frames + 1  # with the one in front
        with Squares(tokens) as seen:
            contender.step()
        row = {
            "tokens": tokens, "padded": padded, "device": device, "bytes": seen.most,
            "squares": seen.made, "square_bytes": 4 * size.heads * tokens**2,
            "seconds": took["step"],
        }  # fmt: skip
        if rows and not padded:
            row["bytes_a_token"] = (seen.most - rows[-1]["bytes"]) / (tokens - rows[-1]["tokens"])
        rows.append(row)
    return rows


def kernels(shape: Shape, runs: int, device: str) -> list[Row]:
    """Attention in bfloat16, forward and back, as plain products and by torch's fused kernel.

    Batch, heads and tokens are the shipped DiT's, ``shape``'s, its cross-attention's, and those of
    longer clips; a head has 64 features. On a GPU there is but the one kernel.
    """
    if device != "cpu":
        return []
    sizes = [(16, 5, 66, 66), (4, 8, 257, 257), (4, 8, 257, 64)]
    sizes += [(1, 8, tokens, tokens) for tokens in (512, 1025, 2049)]
    rows: list[Row] = []
    for batch, heads, tokens, keys in sizes:
        parts = [
            torch.randn(batch, n, heads, 64, device=device).bfloat16().transpose(1, 2)
            for n in (tokens, keys, keys)
        ]
        parts = [part.requires_grad_() for part in parts]

        def both(short: float, parts: list[Tensor] = parts) -> None:
            with patch.object(attend, "SHORT", short):
                out = attend.attend(parts[0], parts[1], parts[2])
            torch.autograd.grad(out.float().square().mean(), parts)

        works = {"plain": partial(both, math.inf), "fused": partial(both, 0)}
        took = in_turn(works, runs, device)
        rows.append(
            {
                "batch x heads x N x S": f"{batch} x {heads} x {tokens} x {keys}",
                "seconds": took["plain"], "fused": took["fused"], "device": device,
                "gain": over(took["fused"], took["plain"]),
            }
        )  # fmt: skip
    return rows


class Counted(MiniLM):
    """The default text encoder, which counts the captions that it encodes."""

    captions = 0

    def encode(self, captions: list[str]) -> Text:
        self.captions += len(captions)
        return super().encode(captions)


def text(shape: Shape, runs: int, device: str) -> list[Row]:
    """A batch's condition made three ways, beside the rest of a step."""
    cfg = config(shape, "model=dit", "model.patch=[1,1]", "conditioning=[cross_attention]")
    conditioners = instantiate(cfg["conditioner"]).to(device)
    conditioners.only(["text", *TIMES])
    times = dict.fromkeys(TIMES, 6.0)
    clips = [{"caption": f"a slow air on the flute, {n}", **times} for n in range(shape.batch)]
    encoder, works, captions = Counted(), {}, {}
    with tempfile.TemporaryDirectory() as folder:
        disk, memory = TextCache(encoder, folder, memory=0), TextCache(encoder)
        caches = {
            "encoder, at each step": lambda: TextCache(encoder, memory=0),
            "cache on disk": lambda: disk,
            "cache in memory": lambda: memory,
        }

        def condition(name: str) -> Condition:
            cache = conditioners.parts["text"].cache = caches[name]()
            cache.halves = ["tokens"]
            return conditioners(clips).move(device)

        for name in caches:
            works[name] = partial(condition, name)
            works[name]()  # fills the caches, as the start of training does
            before = encoder.captions
            works[name]()
            captions[name] = encoder.captions - before
        with torch.no_grad():
            given = Given.draw(shape, device)._replace(condition=condition("cache in memory"))
        works["step"] = partial(ours(cfg, given).step, "bf16-mixed")
        took = in_turn(works, runs, device)
    return [
        {
            "text": name, "captions": captions[name], "seconds": took[name], "device": device,
            "rest": took["step"],
            "share": [a / (a + b) for a, b in zip(took[name], took["step"], strict=True)],
        }
        for name in caches
    ]  # fmt: skip
