"""Round trips of real music, by the representations as they ship."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from glissando.build import representation
from glissando.cli.conf import config_dir
from glissando.metrics.reconstruction import si_sdr
from glissando.representations.base import Representation


def shipped(name: str) -> Representation:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return representation(compose("encode", [f"representation={name}"])).eval()


@pytest.mark.slow
@torch.no_grad()
def test_exact_ones_give_scores_back(tmp_path: Path) -> None:
    """60 dB and more, also from float16, in which latents are cached (71 of 24 clips)."""
    pytest.importorskip("tinysoundfont")
    from glissando.datasets.scores import Scores

    source = Scores(clips=4, seconds=6.0, cache=str(tmp_path), workers=1)
    jobs = [job for jobs in source.jobs().values() for job in jobs]
    waves = torch.stack([torch.from_numpy(source.make(job).wave) for job in jobs])
    length = waves.shape[-1]
    for name in ("waveform", "complex_stft"):
        form = shipped(name)
        z = form.encode(waves)
        assert si_sdr(form.decode(z, length), waves).min() > 100, name
        assert si_sdr(form.decode(z.half().float(), length), waves).min() > 60, name
