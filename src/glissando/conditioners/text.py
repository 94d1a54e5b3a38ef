"""Caption -> `text` (token states) and `text_pooled` (one vector)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from glissando.condition import Condition, Entry, Size, Sizes, Vector
from glissando.condition import Sequence as Tokens
from glissando.conditioners.base import Attributes, Conditioner, absent_value, rows
from glissando.text_encoders import TextCache, TextEncoder, check_caption

log = logging.getLogger(__name__)


class TextConditioner(Conditioner):
    """A frozen text encoder behind a cache, as two entries.

    The null (and an absent or blank caption, which says nothing either) is *one real token*, zero
    or learned, and a vector: attention over no token at all would be 0/0, and one zero token gives
    cross-attention a constant to look at. Its S differs from a caption's; ``Condition.where`` and
    ``.cat`` pad.

    Args:
        encoder: frozen; in neither ``parameters()`` nor ``state_dict()``, runs on its own device.
        name: entries ``<name>`` (Sequence) and ``<name>_pooled`` (Vector).
        attribute: key in a clip's attributes.
        unconditional: ``zero`` or ``learned``.
        cache: folder of the disk cache, None for memory only (see ``TextCache``).
    """

    policies = ("zero", "learned")

    def __init__(
        self,
        encoder: TextEncoder,
        name: str = "text",
        attribute: str = "caption",
        unconditional: Literal["zero", "learned"] = "zero",
        cache: str | Path | None = None,
    ) -> None:
        super().__init__(attribute, unconditional)
        self.encoder = encoder  # not a module: stays out of the state dict
        self.cache = TextCache(encoder, cache)
        self._names = {"tokens": name, "pooled": f"{name}_pooled"}
        absent_value(unconditional, encoder.tokens_dim, self, "absent_token")
        absent_value(unconditional, encoder.pooled_dim, self, "absent_pooled")
        self.absent_token: Tensor
        self.absent_pooled: Tensor

    @property
    def sizes(self) -> Sizes:
        sizes = {
            "tokens": Size(Tokens, self.encoder.tokens_dim),
            "pooled": Size(Vector, self.encoder.pooled_dim),
        }
        return {self._names[half]: sizes[half] for half in self.cache.halves}

    def parse(self, value: Any) -> str | None:
        return check_caption(value, self.attribute).strip() or None

    def embed(self, values: list[str], frames: int | None = None) -> Condition:
        device = self.absent_token.device
        entries: dict[str, Entry] = {}
        if "tokens" in self.cache.halves:
            tokens, mask = self.cache.tokens(values)
            entries[self._names["tokens"]] = Tokens(tokens.to(device), mask.to(device))
        if "pooled" in self.cache.halves:
            entries[self._names["pooled"]] = Vector(self.cache.pooled(values).to(device))
        return Condition(entries)

    def absent(self, n: int, frames: int = 1) -> Condition:
        mask = torch.ones(n, 1, dtype=torch.bool, device=self.absent_token.device)
        entries = {
            "tokens": Tokens(rows(self.absent_token, n).unsqueeze(1), mask),
            "pooled": Vector(rows(self.absent_pooled, n)),
        }
        return Condition({self._names[half]: entries[half] for half in self.cache.halves})

    def null(
        self, n: int, negative: Sequence[str | None] | None = None, like: Condition | None = None
    ) -> Condition:
        """n null rows; a negative prompt takes the null's place in its row."""
        if negative is None:
            return self.absent(n)
        if len(negative) != n:
            raise ValueError(f"{len(negative)} negative prompts for {n} rows")
        return self([{self.attribute: prompt} for prompt in negative])

    def warm(self, attributes: Sequence[Attributes]) -> None:
        captions = (self._value(row) for row in attributes)
        self.cache.warm(caption for caption in captions if caption is not None)

    def only(self, names: Collection[str]) -> None:
        halves = [half for half in self.cache.halves if self._names[half] in names]
        for half in set(self.cache.halves) - set(halves):
            log.info("nobody reads %s: it is neither computed nor cached", self._names[half])
        self.cache.halves = halves
