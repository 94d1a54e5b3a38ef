from __future__ import annotations

import numpy as np
import pytest
import torch
from tones import RATE, Tones, ramp

from glissando.datasets.latents import encode_dataset
from glissando.datasets.prepare import prepare
from glissando.datasets.shards import read_dataset, shard_paths
from glissando.datasets.stores import LocalFile
from glissando.datasets.stream import open_stream
from glissando.errors import UserError

HOP = 100


def encode(wave):
    """(B, 1, L) -> (B, 3, 2, T): the mean of each hop, six times over with signs."""
    length = -(-wave.shape[-1] // HOP) * HOP
    wave = torch.nn.functional.pad(wave, (0, length - wave.shape[-1]))
    mean = wave[:, 0].unflatten(-1, (-1, HOP)).mean(-1)
    return mean[:, None, None] * torch.tensor([1.0, -1, 2, -2, 3, -3]).view(1, 3, 2, 1)


@pytest.fixture
def root(tmp_path):
    prepare(Tones(11, valid=3), tmp_path / "audio", samples_per_shard=4, progress=False)
    return tmp_path / "audio"


def test_latents_are_the_clips_encoded_with_their_attributes(root, tmp_path, capsys):
    facts = encode_dataset(root, tmp_path / "z", encode, "mean", HOP, batch_size=3)
    assert "14 latents of 3 x 2 at 80.0 Hz, none refused" in capsys.readouterr().err
    assert (facts["kind"], facts["hop"], facts["latent"]) == ("latent", HOP, [3, 2])
    assert facts["representation"] == "mean"
    assert facts["audio"] == read_dataset(root)["fingerprint"]
    assert facts["splits"]["train"]["seconds"] == 22.0
    for split in ("train", "valid"):
        audio = list(open_stream(root, split, None, 4, train=False))
        latent = list(open_stream(tmp_path / "z", split, None, 4, train=False))
        for a, z in zip(audio, latent, strict=True):
            assert a.keys == z.keys
            assert a.attributes == z.attributes
            assert z.latent is not None
            assert z.latent.shape == (len(a), 3, 2, 2 * RATE // HOP)
            half = encode(a.waveform).half().float()  # stored as float16
            assert torch.equal(z.latent, half)


def test_crops_of_latents_are_where_they_say(root, tmp_path):
    encode_dataset(root, tmp_path / "z", encode, "mean", HOP, progress=False)
    starts = set()
    for batch in open_stream(tmp_path / "z", "train", 0.5, 2):
        assert batch.latent is not None
        assert batch.latent.shape == (2, 3, 2, 40)
        for key, z, facts in zip(batch.keys, batch.latent, batch.attributes, strict=True):
            start = round(facts["crop_start"] * RATE)
            assert start % HOP == 0
            wave = ramp(int(key[4:]), 2 * RATE)[start : start + RATE // 2]
            assert np.abs(z[0, 0].numpy() - wave.reshape(-1, HOP).mean(1)).max() < 1e-3
            assert facts["seconds_start"] == 10.0 + facts["crop_start"]
            starts.add(start)
    assert len(starts) > 3


class Uneven(Tones):
    def make(self, job):
        clip = super().make(job)
        return type(clip)(
            clip.key,
            clip.wave[:, : 8000 + 1050 * (job.number % 3)],
            RATE,
            clip.attributes,
        )


def test_clips_of_uneven_length_are_encoded_alone_and_masked_in_batches(tmp_path):
    prepare(Uneven(6, valid=1), tmp_path / "audio", progress=False)
    lengths = []

    def spy(wave):
        lengths.append(wave.shape[-1])
        return encode(wave)

    encode_dataset(tmp_path / "audio", tmp_path / "z", spy, "mean", HOP, progress=False)
    assert sorted(lengths) == [8000, 8000, 9050, 10100]  # one of valid
    (batch,) = open_stream(tmp_path / "z", "train", None, 6)
    assert batch.mask is not None
    assert batch.latent is not None
    for key, mask, z in zip(batch.keys, batch.mask, batch.latent, strict=True):
        real = {0: 80, 1: 91, 2: 101}[int(key[4:]) % 3]
        assert mask.sum() == real
        assert mask[:real].all()
        assert (z[..., real:] == 0).all()


def test_an_interrupted_encoding_goes_on(root, tmp_path):
    calls = []

    def dies(wave):
        calls.append(len(wave))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(wave)

    with pytest.raises(KeyboardInterrupt):
        encode_dataset(root, tmp_path / "z", dies, "mean", HOP, progress=False)
    with pytest.raises(UserError, match="no prepared dataset"):
        read_dataset(tmp_path / "z")
    calls.clear()
    encode_dataset(
        root, tmp_path / "z", lambda w: calls.append(len(w)) or encode(w), "mean", HOP,
        progress=False,
    )  # fmt: skip
    assert calls == [3, 3]  # two shards were whole
    encode_dataset(root, tmp_path / "z2", encode, "mean", HOP, progress=False)
    for split in ("train", "valid"):
        for a, b in zip(
            shard_paths(tmp_path / "z", split), shard_paths(tmp_path / "z2", split), strict=True
        ):
            assert a.read_bytes() == b.read_bytes()


def test_latents_of_another_representation_or_audio_are_refused(root, tmp_path):
    encode_dataset(root, tmp_path / "z", encode, "mean", HOP, progress=False)
    with pytest.raises(UserError, match=r"representation=mean, other"):
        encode_dataset(root, tmp_path / "z", encode, "other", HOP, progress=False)
    encode_dataset(root, tmp_path / "z", encode, "other", HOP, progress=False, overwrite=True)
    assert read_dataset(tmp_path / "z")["representation"] == "other"
    with pytest.raises(UserError, match="holds latents and not audio"):
        encode_dataset(tmp_path / "z", tmp_path / "zz", encode, "mean", HOP, progress=False)


def test_latents_that_float16_cannot_hold_are_refused(root, tmp_path):
    def huge(wave):
        return encode(wave) * torch.where(torch.arange(len(wave)) == 0, 1e6, 1.0).view(-1, 1, 1, 1)

    facts = encode_dataset(root, tmp_path / "z", huge, "mean", HOP, progress=False)
    assert facts["splits"]["train"]["samples"] == 8  # the first of each of the three shards is not


def test_cached_latents_are_the_same(root, tmp_path):
    encode_dataset(root, tmp_path / "z", encode, "mean", HOP, progress=False)
    plain = list(open_stream(tmp_path / "z", "train", 0.5, 3))
    stream = open_stream(tmp_path / "z", "train", 0.5, 3, cache=True)
    for _ in range(2):
        for a, b in zip(plain, stream, strict=True):
            assert a.latent is not None
            assert b.latent is not None
            assert torch.equal(a.latent, b.latent)
            assert a.attributes == b.attributes


def test_the_disk_is_told_what_will_be_read_and_nothing_else(root, tmp_path, monkeypatch):
    encode_dataset(root, tmp_path / "z", encode, "mean", HOP, progress=False)
    done = []
    read, expect = LocalFile.read, LocalFile.expect
    monkeypatch.setattr(
        LocalFile, "read", lambda s, *at: done.append(("read", s.path, *at)) or read(s, *at)
    )
    monkeypatch.setattr(
        LocalFile, "expect", lambda s, *at: done.append(("told", s.path, *at)) or expect(s, *at)
    )
    stream = open_stream(tmp_path / "z", "train", None, 1)
    stream.seek(2, position=1)
    assert len(list(stream)) == 10
    told = [place for what, *place in done if what == "told"]
    assert len(told) == 10 * 2  # npy and json
    assert sorted(map(str, told)) == sorted(str(place) for what, *place in done if what == "read")
    for place in told:
        assert done.index(("told", *place)) < done.index(("read", *place))
    done.clear()
    list(open_stream(tmp_path / "z", "train", None, 1, cache=True))
    list(open_stream(root, "train", 0.2, 1))  # where in the file a crop lies is not known
    assert not [what for what, *_ in done if what == "told"]
