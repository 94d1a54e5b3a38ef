from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from tones import RATE, Tones, ramp

from glissando.datasets import ahead
from glissando.datasets.latents import encode_dataset
from glissando.datasets.prepare import prepare
from glissando.datasets.shards import NEAR, Shard, read_dataset, shard_paths, whole_shard
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


@pytest.fixture
def told(monkeypatch):
    """What is read of local files and what the disk is told of, in order."""
    done = []
    read, expect = LocalFile.read, LocalFile.expect
    monkeypatch.setattr(
        LocalFile, "read", lambda s, *at: done.append(("read", s.path, *at)) or read(s, *at)
    )
    monkeypatch.setattr(
        LocalFile, "expect", lambda s, *at: done.append(("told", s.path, *at)) or expect(s, *at)
    )
    return done


def of(kind, done):
    return [place for what, *place in done if what == kind]


@pytest.mark.parametrize("reason", ["machines", "room"])
def test_the_disk_is_told_of_samples_and_of_nothing_else(root, tmp_path, told, monkeypatch, reason):
    """One stretch a sample, npy and json together, where shards are not read whole."""
    encode_dataset(root, tmp_path / "z", encode, "mean", HOP, progress=False)
    told.clear()
    if reason == "room":
        monkeypatch.setattr(ahead, "ROOM", 50_000)  # two shards have 41 KB, three more
    stream = open_stream(
        tmp_path / "z", "train", None, 1, machines=2 if reason == "machines" else 1
    )
    stream.seek(2, position=1)
    assert len(list(stream)) == 10
    assert len(of("told", told)) == 10
    assert sorted(map(str, of("told", told))) == sorted(map(str, of("read", told)))
    for place in of("told", told):
        assert told.index(("told", *place)) < told.index(("read", *place))
    told.clear()
    list(open_stream(tmp_path / "z", "train", None, 1, cache=True))
    list(open_stream(root, "train", 0.2, 1))  # where in the file a crop lies is not known
    assert not of("told", told)


def test_shards_are_read_whole_a_round_ahead(root, tmp_path, told):
    """Three shards of 4, 4 and 3 in rounds of one: each told once, while the one before is read."""
    encode_dataset(root, tmp_path / "z", encode, "mean", HOP, progress=False)
    told.clear()
    stream = open_stream(tmp_path / "z", "train", None, 1, mix=1)
    keys = [key for batch in stream for key in batch.keys]
    assert len(set(keys)) == len(of("read", told)) == 11
    order = list(dict.fromkeys(path for path, *_ in of("read", told)))
    assert of("told", told) == [[path, 0, path.stat().st_size] for path in order]
    for path, following in pairwise(order):
        when = told.index(("told", following, 0, following.stat().st_size))
        reads = [i for i, (what, where, *_) in enumerate(told) if (what, where) == ("read", path)]
        assert reads[0] < when < reads[-1]
    told.clear()
    list(open_stream(tmp_path / "z", "train", None, 1))  # one round of all
    assert [what for what, *_ in told[:3]] == ["told"] * 3
    # Of an epoch that was begun before, shards of which little is left are not read whole.
    told.clear()
    stream.seek(0, position=3)
    assert [key for batch in stream for key in batch.keys] == keys[3:]
    assert [path for path, *_ in of("told", told)] == order[1:]


def test_neighbouring_members_are_one_read_and_distant_ones_two(tmp_path, told):
    path = tmp_path / "x.tar"
    sample = {"npy": b"a" * 700, "json": b"{}", "far": b"b" * NEAR, "txt": b"c"}
    with whole_shard(path, "") as writer:
        writer.add("k", sample)
    shard = Shard(path)
    (row,) = shard.samples
    assert shard.members(row, {"json", "npy", "none"}) == {"json": b"{}", "npy": b"a" * 700}
    assert len(of("read", told)) == 1
    assert shard.members(row, sample.keys()) == sample
    assert len(of("read", told)) == 2
    assert shard.members(row, {"npy", "txt"}) == {"npy": b"a" * 700, "txt": b"c"}
    assert len(of("read", told)) == 4
    assert shard.members(row, set()) == {}
