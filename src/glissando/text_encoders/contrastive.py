"""Text towers of contrastive models: CLAP (audio and text) and CLIP (image and text)."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from glissando.text_encoders.pretrained import Pretrained


class Contrastive(Pretrained):
    """A text tower with a projection: pooled is the unit vector of the joint space.

    Tokens are the tower's last hidden state, before projection.
    """

    @property
    def tokens_dim(self) -> int:
        return self.config.text_config.hidden_size

    @property
    def pooled_dim(self) -> int:
        return self.config.projection_dim

    def model_config(self) -> Any:
        # The tower has no other way to know the joint space's size than its own config.
        config = self.config.text_config
        config.projection_dim = self.pooled_dim
        return config

    def pool(self, output: Any, mask: Tensor) -> Tensor:
        return F.normalize(output.text_embeds, dim=-1)


class CLAP(Contrastive):
    """CLAP's text tower (Wu et al. 2023), as MusicLDM and AudioLDM use it: normalized, global.

    ``limit`` 77 is the length it was trained with.
    """

    model_class = "ClapTextModelWithProjection"

    def __init__(
        self, name: str = "laion/larger_clap_music", limit: int = 77, device: str = "auto"
    ) -> None:
        super().__init__(name, limit, device)


class CLIP(Contrastive):
    """CLIP's text tower (Radford et al. 2021), as Riffusion and Stable Diffusion use it."""

    model_class = "CLIPTextModelWithProjection"

    def __init__(
        self, name: str = "openai/clip-vit-large-patch14", limit: int = 77, device: str = "auto"
    ) -> None:
        super().__init__(name, limit, device)
