"""What every text encoder promises: captions in, token states, mask and one pooled vector out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glissando.errors import UserError


@dataclass(frozen=True)
class Text:
    """Encoded captions: B captions, S text tokens, D features (two D: tokens_dim, pooled_dim)."""

    tokens: Tensor  # (B, S, tokens_dim) float32, zero where padded
    mask: Tensor  # (B, S) bool, True = real; every row has at least one
    pooled: Tensor  # (B, pooled_dim) float32


class TextEncoder(ABC):
    """A frozen text encoder.

    It is *not* an ``nn.Module``, on purpose: a conditioner that holds one has none of its weights
    in ``parameters()``, ``state_dict()`` or an EMA copy. It loads its weights at the first call, on
    its own device, and returns tensors there.

    ``limit`` is the largest S; a longer caption is truncated, with one warning per run.
    """

    limit: int

    @property
    @abstractmethod
    def name(self) -> str:
        """What identifies its numbers (weights and limit): the key of the disk cache."""

    @property
    @abstractmethod
    def tokens_dim(self) -> int:
        """D of a token state; known without loading weights."""

    @property
    @abstractmethod
    def pooled_dim(self) -> int:
        """D of the pooled vector; known without loading weights."""

    @abstractmethod
    def encode(self, captions: list[str]) -> Text:
        """Encode B >= 1 checked captions in one pass; called without gradient."""

    def __call__(self, captions: Sequence[str]) -> Text:
        """Encode captions; an empty one is a legal text.

        Raises:
            UserError: a caption is not a string.
            ValueError: there is no caption.
        """
        if isinstance(captions, str) or not captions:
            raise ValueError("give a list of at least one caption")
        for caption in captions:
            check_caption(caption)
        with torch.no_grad():
            return self.encode(list(captions))

    def __deepcopy__(self, memo: dict) -> TextEncoder:
        """Frozen, so a copied conditioner (an EMA twin) shares it instead of doubling it."""
        return self


def check_caption(caption: object, source: str = "caption") -> str:
    """The caption itself, if it is text; else a ``UserError`` that names its ``source``."""
    if isinstance(caption, str):
        if not _is_unicode(caption):
            raise UserError(f"{source} {caption!a} is not text: a part of it is not UTF-8")
        return caption
    raise UserError(
        f"{source} is {caption!r}, a {type(caption).__name__}, not text: "
        "write it between quotes, or leave it out for no caption"
    )


def _is_unicode(caption: str) -> bool:
    """Whether no byte was left undecoded, as in an argument that is not UTF-8."""
    try:
        caption.encode()
    except UnicodeEncodeError:
        return False
    return True


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens: (B, S, D), (B, S) bool -> (B, D); padding has no part in it."""
    weight = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)
