"""T5 and Flan-T5 encoders, the text side of Stable Audio Open, MusicGen, AudioLDM2."""

from __future__ import annotations

from glissando.text_encoders.pretrained import Pretrained


class T5(Pretrained):
    """The encoder half of any T5, from the hub or a folder.

    Tokens are the last hidden state; T5 has no sentence vector of its own, pooled is their mean.
    ``limit`` 128 is Stable Audio Open's.
    """

    model_class = "T5EncoderModel"

    def __init__(
        self, name: str = "google-t5/t5-base", limit: int = 128, device: str = "auto"
    ) -> None:
        super().__init__(name, limit, device)

    @property
    def tokens_dim(self) -> int:
        return self.config.d_model

    @property
    def pooled_dim(self) -> int:
        return self.config.d_model
