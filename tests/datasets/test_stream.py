from __future__ import annotations

import io
import json
import logging
import tarfile

import numpy as np
import pytest
import soundfile
import soxr
import torch
from tones import RATE, Tones, ramp
from torch.utils.data import DataLoader

from glissando.datasets.foreign import index_of
from glissando.datasets.prepare import prepare
from glissando.datasets.samples import AT_ONCE, AudioReader
from glissando.datasets.shards import Shard, index_path, open_shards, shard_paths, write_json
from glissando.datasets.stream import ClipStream, open_stream
from glissando.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("tones")
    prepare(Tones(37, seconds=2.0, valid=11), root, samples_per_shard=8, progress=False)
    return root


def batches(stream, workers=0):
    return list(DataLoader(stream, batch_size=None, num_workers=workers))


def same(a, b):
    return a.keys == b.keys and a.attributes == b.attributes and torch.equal(a.waveform, b.waveform)


def number(key: str) -> int:
    return int(key.removeprefix("tone"))


def test_crops_are_where_they_say(root):
    for batch in batches(open_stream(root, "train", 0.5, 4)):
        assert batch.waveform.shape == (4, 1, RATE // 2)
        assert batch.mask is None
        for key, wave, facts in zip(batch.keys, batch.waveform, batch.attributes, strict=True):
            start = round(facts["crop_start"] * RATE)
            expected = ramp(number(key), 2 * RATE)[start : start + RATE // 2]
            assert np.abs(wave[0].numpy() - expected).max() < 2 / 32768
            assert facts["seconds_start"] == 10.0 + facts["crop_start"]
            assert facts["seconds_total"] == 60.0
            assert facts["caption"] == f"ramp {number(key)}"


def test_training_crops_cover_the_clip_and_evaluation_takes_the_middle(root):
    stream = open_stream(root, "train", 0.5, 4)
    starts = []
    for epoch in range(8):
        stream.seek(epoch)
        starts += [facts["crop_start"] for batch in stream for facts in batch.attributes]
    assert min(starts) < 0.1
    assert max(starts) > 1.4
    assert np.mean(starts) == pytest.approx(0.75, abs=0.1)
    valid = open_stream(root, "valid", 0.5, 4)
    assert {f["crop_start"] for b in valid for f in b.attributes} == {0.75}


def test_short_clips_are_padded_and_masked(root):
    for batch in open_stream(root, "train", 3.0, 4):
        assert batch.waveform is not None
        assert batch.mask is not None
        assert batch.waveform.shape == (4, 1, 3 * RATE)
        assert (batch.mask.sum(1) == 2 * RATE).all()
        assert (batch.waveform[..., 2 * RATE :] == 0).all()


def test_whole_clips_when_no_length_is_asked(root):
    batch = next(iter(open_stream(root, "valid", None, 3)))
    assert batch.waveform is not None
    assert batch.waveform.shape == (3, 1, 2 * RATE)
    assert batch.mask is None


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_every_sample_once_per_epoch_over_ranks_and_workers(root, world, workers):
    for split, total in (("train", 37), ("valid", 11)):
        ranks = [
            batches(open_stream(root, split, 0.2, 2, rank=r, world=world), workers)
            for r in range(world)
        ]
        assert len({len(rank) for rank in ranks}) == 1
        keys = [key for rank in ranks for batch in rank for key in batch.keys]
        assert len(set(keys)) == len(keys)
        dropped = total % (2 * world) if split == "train" else 0
        assert len(keys) == total - dropped


def test_workers_change_nothing(root):
    alone = batches(open_stream(root, "train", 0.3, 4, seed=5))
    for workers in (1, 2):
        shared = batches(open_stream(root, "train", 0.3, 4, seed=5), workers)
        assert len(alone) == len(shared) == 9
        assert all(same(a, b) for a, b in zip(alone, shared, strict=True))


def test_ranks_together_make_the_steps_of_one_process(root):
    alone = batches(open_stream(root, "train", 0.3, 6))
    ranks = [batches(open_stream(root, "train", 0.3, 3, rank=r, world=2)) for r in range(2)]
    for step, (a, b) in zip(alone, zip(*ranks, strict=True), strict=True):
        assert step.keys == a.keys + b.keys
        assert torch.equal(step.waveform, torch.cat([a.waveform, b.waveform]))


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_at_any_position_is_bit_exact(root, workers):
    stream = open_stream(root, "train", 0.3, 4, seed=1)
    stream.seek(3)
    whole = batches(stream)
    for done in range(len(whole) + 1) if workers == 0 else (1, 6):
        again = open_stream(root, "train", 0.3, 4, seed=1)
        again.seek(3, position=4 * done)
        assert again.left() == len(whole) - done
        rest = batches(again, workers)
        assert len(rest) == len(whole) - done
        assert all(same(a, b) for a, b in zip(whole[done:], rest, strict=True))
        skipping = list(again.batches(3, begin=done))
        assert all(same(a, b) for a, b in zip(whole[done:], skipping, strict=True))


def test_resuming_on_other_ranks_deals_what_is_left(root):
    alone = batches(open_stream(root, "train", 0.3, 4))
    rest = []
    for rank in range(2):
        stream = open_stream(root, "train", 0.3, 4, rank=rank, world=2)
        stream.seek(0, position=12)
        rest += batches(stream)
    keys = [k for b in alone[:3] + rest for k in b.keys]
    assert len(keys) == len(set(keys)) == 36


def test_skipping_reads_nothing(root, monkeypatch):
    read = []
    real = Shard.read
    monkeypatch.setattr(
        Shard, "read", lambda self, *place: read.append(place) or real(self, *place)
    )
    stream = open_stream(root, "train", 0.3, 4)
    stream.seek(0, position=32)
    assert len(batches(stream)) == 1
    assert len(read) == 4 * 2  # the audio and the json of each row, of one batch


def test_living_workers_see_a_seek(root):
    stream = open_stream(root, "train", 0.3, 4)
    loader = DataLoader(stream, batch_size=None, num_workers=2, persistent_workers=True)
    first = list(loader)
    stream.seek(1)
    second = list(loader)
    assert [b.keys for b in second] != [b.keys for b in first]
    alone = open_stream(root, "train", 0.3, 4)
    assert all(same(a, b) for a, b in zip(second, alone.batches(1), strict=True))


def test_cached_batches_are_the_same_and_read_once(root, monkeypatch):
    plain = batches(open_stream(root, "train", 0.3, 4))
    stream = open_stream(root, "train", 0.3, 4, cache=True)
    assert all(same(a, b) for a, b in zip(plain, batches(stream), strict=True))
    stream.seek(0)
    monkeypatch.setattr(Shard, "read", None)
    assert all(same(a, b) for a, b in zip(plain, batches(stream), strict=True))


def test_fewer_shards_than_slots_and_fewer_samples(root, tmp_path):
    prepare(Tones(5, valid=1), tmp_path, progress=False)  # one shard
    ranks = [batches(open_stream(tmp_path, "train", 0.2, 1, rank=r, world=5), 2) for r in range(5)]
    assert sorted(k for rank in ranks for b in rank for k in b.keys) == [
        f"tone{i:04d}" for i in range(5)
    ]
    with pytest.raises(UserError, match=r"5 samples are too few for 6 processes"):
        batches(open_stream(tmp_path, "train", 0.2, 1, rank=0, world=6))
    with pytest.raises(UserError, match=r"'test' of .* is empty"):
        open_stream(tmp_path, "test", 0.2, 1)
    with pytest.raises(UserError, match="glissando prepare"):
        open_stream(tmp_path / "nowhere", "train", 0.2, 1)


def damage(root, split: str, rows: list[int]) -> list[str]:
    """Overwrite the audio of some samples of the first shard with zeros."""
    shard = Shard(shard_paths(root, split)[0])
    with shard.path.open("r+b") as file:
        for row in rows:
            offset, size = shard.samples[row]["members"]["flac"]
            file.seek(offset)
            file.write(bytes(size))
    return [shard.samples[row]["key"] for row in rows]


def test_a_damaged_sample_is_replaced_and_named_once(tmp_path, caplog):
    prepare(Tones(40, valid=4), tmp_path, progress=False)
    (bad,) = damage(tmp_path, "train", [7])
    stream = open_stream(tmp_path, "train", 0.2, 4)
    with caplog.at_level(logging.WARNING):
        for epoch in range(3):
            stream.seek(epoch)
            found = batches(stream)
            assert [len(batch) for batch in found] == [4] * 10
            assert bad not in {key for batch in found for key in batch.keys}
    assert len(caplog.messages) == 1
    assert bad in caplog.text
    assert "1 so far" in caplog.text


def test_too_many_damaged_samples_are_an_error(tmp_path):
    prepare(Tones(40, valid=4), tmp_path, progress=False)
    damage(tmp_path, "train", [1, 2, 3])
    assert len(batches(open_stream(tmp_path, "train", 0.2, 4, corrupt=0.1))) == 10
    with pytest.raises(
        UserError, match=r"3 of 40 samples are unreadable, more than loader\.corrupt=0\.05"
    ):
        batches(open_stream(tmp_path, "train", 0.2, 4))
    stream = open_stream(tmp_path, "train", 0.2, 4)
    rows = iter(DataLoader(stream, batch_size=None, num_workers=2))
    with pytest.raises(UserError, match="are unreadable, more than"):  # workers count together
        list(rows)
    rows._shutdown_workers()  # type: ignore[attr-defined]  # at garbage collection it takes 10 s


def test_nothing_but_damaged_samples_ends(tmp_path):
    prepare(Tones(6, valid=4), tmp_path, progress=False)
    damage(tmp_path, "train", list(range(6)))
    with pytest.raises(UserError, match="no readable sample among 6"):
        batches(open_stream(tmp_path, "train", 0.2, 2, corrupt=1.0))


def test_stereo(tmp_path):
    prepare(Tones(4, channels=2), tmp_path, progress=False)
    (batch,) = open_stream(tmp_path, "train", 0.5, 4)
    assert batch.waveform is not None
    assert batch.waveform.shape == (4, 2, RATE // 2)


def indexed(path) -> Shard:
    write_json(index_path(path), index_of(path))
    return Shard(path)


def test_a_long_member_is_read_only_where_the_crop_is(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 0.1, 120 * 22050).astype("f4")
    file = io.BytesIO()
    soundfile.write(file, wave, 22050, format="FLAC")
    encoded = file.getvalue()
    assert len(encoded) > 4 * AT_ONCE
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in (("a.flac", encoded), ("a.txt", b"a caption\n")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    shard = indexed(path)
    read = []
    real = Shard.read
    monkeypatch.setattr(Shard, "read", lambda s, o, n: read.append(n) or real(s, o, n))
    stream = ClipStream([shard], AudioReader(22050, 1), 1.5, batch_size=1, train=True)
    (batch,) = stream
    start = round(batch.attributes[0]["crop_start"] * 22050)
    assert np.abs(batch.waveform[0, 0].numpy() - wave[start : start + 33075]).max() < 2 / 32768
    assert batch.attributes[0]["caption"] == "a caption"
    assert sum(read) < len(encoded) / 3


def test_foreign_tars_with_several_kinds_of_audio_are_streamed(tmp_path):
    path = tmp_path / "them 000.tar"
    with tarfile.open(path, "w") as tar:
        for row, kind in enumerate(("wav", "ogg", "mp3", "flac")):
            file = io.BytesIO()
            soundfile.write(file, 0.5 * np.sin(np.arange(22050) / 9), 22050, format=kind.upper())
            facts = json.dumps({"caption": kind, "row": row}).encode()
            for name, content in ((kind, file.getvalue()), ("json", facts)):
                info = tarfile.TarInfo(f"deep/er/{row:03d}.{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        info = tarfile.TarInfo("deep/er/004.txt")
        tar.addfile(info)
    shard = indexed(path)
    assert shard.index["refused"] == [["deep/er/004", "no audio member"]]
    (batch,) = ClipStream([shard], AudioReader(22050, 1), 0.5, batch_size=4, train=False)
    assert [facts["caption"] for facts in batch.attributes] == ["wav", "ogg", "mp3", "flac"]
    assert batch.waveform is not None
    assert (batch.waveform.abs().amax((1, 2)) > 0.4).all()


@pytest.mark.parametrize(("rate", "channels"), [(8000, 2), (4000, 1), (12000, 2), (16000, 1)])
def test_other_rates_and_channels_are_converted_as_they_are_read(tmp_path, rate, channels):
    """Crops of the converted file, whatever the crop: no edges, no shifts."""
    time = np.arange(5 * RATE) / RATE
    wave = 0.4 * np.sin(2 * np.pi * 300 * time + 3 * np.sin(2 * np.pi * 2 * time))
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format="FLAC")
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("a.flac")
        info.size = len(file.getvalue())
        tar.addfile(info, io.BytesIO(file.getvalue()))
    expected = soxr.resample(wave, RATE, rate, "VHQ")
    for cache in (None, {}):
        reader = AudioReader(rate, channels, cache)
        stream = ClipStream([indexed(path)], reader, 0.5, 1, train=True)
        for epoch in range(4):
            stream.seek(epoch)
            (batch,) = stream
            assert batch.waveform.shape == (1, channels, rate // 2)
            start = round(batch.attributes[0]["crop_start"] * rate)
            inner = slice(50, -50) if start < 50 else slice(None)
            crop = expected[start : start + rate // 2]
            assert np.abs(batch.waveform[0].numpy() - crop)[:, inner].max() < 1e-3
        (whole,) = ClipStream([indexed(path)], reader, None, 1, train=False)
        assert whole.waveform.shape == (1, channels, 5 * rate)


def test_channels_that_cannot_be_mixed_are_refused(tmp_path, root):
    stream = ClipStream(open_shards(root, "train"), AudioReader(RATE, 1), 0.5, 4, train=True)
    stream.reader = AudioReader(RATE, 2)
    assert next(iter(stream)).waveform.shape == (4, 2, RATE // 2)
    prepare(Tones(4, channels=3), tmp_path, progress=False)
    stream = ClipStream(open_shards(tmp_path, "train"), AudioReader(RATE, 4), 0.5, 4, train=True)
    with pytest.raises(UserError, match=r"3 channels where data\.channels=4"):
        batches(stream)


def test_a_missing_index_is_an_error_that_says_what_to_do(tmp_path):
    prepare(Tones(4), tmp_path, progress=False)
    index_path(shard_paths(tmp_path, "train")[0]).unlink()
    with pytest.raises(UserError, match="glissando prepare"):
        batches(open_stream(tmp_path, "train", 0.5, 4))
