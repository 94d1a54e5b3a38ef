"""An autoencoder that begins as several linear codecs, trained for real."""

from __future__ import annotations

from pathlib import Path

import torch

from tiny import VAE, Train, numbers, stored


def test_the_codecs_stay_as_they_were_fitted(train: Train, tmp_path: Path) -> None:
    some = [*VAE, "model.bits=2", "model.rank=24"]
    for steps in (1, 4):
        train(tmp_path / str(steps), *some, f"trainer.max_steps={steps}")
    short, long = (stored(tmp_path / str(steps))["state_dict"] for steps in (1, 4))
    fitted = {name for name in short if ".transform." in name}
    assert {name.rpartition("transform.")[2] for name in fitted} >= {"encode", "decode", "energy"}
    for name in fitted:
        torch.testing.assert_close(short[name], long[name], atol=0, rtol=0)
    assert any(not torch.equal(short[name], long[name]) for name in short if "decoder" in name)
    assert float(numbers(tmp_path / "4")[-1]["val/snr"]) > 3
