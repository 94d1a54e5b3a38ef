"""Hinge GAN losses and feature matching over the scores of several discriminators."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from glissando.networks.discriminators import Scores


def discriminator_loss(real: Scores, fake: Scores) -> Tensor:
    """Hinge loss (Lim and Ye 2017), averaged over discriminators: scalar."""
    losses = [
        F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()
        for (real_logits, _), (fake_logits, _) in zip(real, fake, strict=True)
    ]
    return torch.stack(losses).mean()


def generator_loss(fake: Scores) -> Tensor:
    """-E[D(G(x))], averaged over discriminators: scalar."""
    return torch.stack([-logits.mean() for logits, _ in fake]).mean()


def feature_matching(real: Scores, fake: Scores) -> Tensor:
    """L1 distance of features relative to their mean magnitude (EnCodec, equation 5): scalar."""
    distances = [
        (fake_feature - real_feature.detach()).abs().mean()
        / real_feature.detach().abs().mean().clamp_min(1e-6)
        for (_, real_features), (_, fake_features) in zip(real, fake, strict=True)
        for real_feature, fake_feature in zip(real_features, fake_features, strict=True)
    ]
    return torch.stack(distances).mean()
