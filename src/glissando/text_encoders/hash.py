"""A text encoder without weights: each word has a fixed random vector. For tests and ablations."""

from __future__ import annotations

import hashlib
import logging
import re

import numpy as np
import torch
from torch import Tensor

from glissando.text_encoders.base import Text, TextEncoder, masked_mean

log = logging.getLogger(__name__)
BEGIN = "<begin>"  # first token of every caption, so that an empty one has a token too


class Hash(TextEncoder):
    """Equal words are equal unit-variance vectors, whatever case, place, process or machine.

    It knows words, not their meaning or order: a lower bound for what a language model adds.

    Args:
        dim: features of tokens and pooled.
        limit: largest number of tokens.
    """

    def __init__(self, dim: int = 64, limit: int = 64) -> None:
        self.dim = dim
        self.limit = limit
        self._warned = False

    @property
    def name(self) -> str:
        return f"hash-{self.dim}-{self.limit}"

    @property
    def tokens_dim(self) -> int:
        return self.dim

    @property
    def pooled_dim(self) -> int:
        return self.dim

    def encode(self, captions: list[str]) -> Text:
        words = [[BEGIN, *re.findall(r"\w+|[^\w\s]", caption.lower())] for caption in captions]
        if not self._warned and max(map(len, words)) > self.limit:
            self._warned = True
            log.warning("a caption is cut to %d words, the encoder's limit (said once)", self.limit)
        rows = [torch.stack([self.vector(w) for w in row[: self.limit]]) for row in words]
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(tokens.shape[1]) < lengths.unsqueeze(1)
        return Text(tokens, mask, masked_mean(tokens, mask))

    def vector(self, word: str) -> Tensor:
        """(dim,) standard normal numbers seeded by the word (numpy's streams are versioned)."""
        seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        return torch.from_numpy(
            np.random.Generator(np.random.PCG64(seed)).standard_normal(self.dim, np.float32)
        )
