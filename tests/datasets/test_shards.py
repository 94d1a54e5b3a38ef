from __future__ import annotations

import io
import json
import pickle
import tarfile

import pytest
import soundfile
import webdataset
from tones import RATE, Tones, ramp

from glissando.datasets.foreign import index_of
from glissando.datasets.prepare import prepare
from glissando.datasets.shards import Shard, index_path, is_whole, shard_paths, whole_shard
from glissando.errors import UserError


@pytest.fixture
def tar(tmp_path):
    prepare(Tones(4, valid=1), tmp_path, progress=False)
    return shard_paths(tmp_path, "train")[0]


def test_index_points_at_the_members(tar):
    shard = Shard(tar)
    assert len(shard.samples) == 4
    with tarfile.open(tar) as archive:
        for sample in shard.samples:
            for name in ("flac", "json"):
                member = archive.extractfile(f"{sample['key']}.{name}")
                assert member is not None
                assert shard.member(sample, name) == member.read()


def test_webdataset_proper_reads_our_shards(tar):
    samples = list(webdataset.WebDataset(str(tar), shardshuffle=False).decode())
    assert [sample["json"]["caption"] for sample in samples] == [f"ramp {i}" for i in range(4)]
    raw = list(webdataset.WebDataset(str(tar), shardshuffle=False))
    wave, rate = soundfile.read(io.BytesIO(raw[2]["flac"]), dtype="float32")
    assert rate == RATE
    assert abs(wave - ramp(2, 2 * RATE)).max() < 2 / 32768  # 16 bits


def test_index_of_a_foreign_tar_is_the_one_we_write_ourselves(tar):
    ours = json.loads(index_path(tar).read_bytes())
    index_path(tar).unlink()
    theirs = index_of(tar)
    assert not index_path(tar).exists()  # nothing is written beside what is not ours
    assert theirs["samples"] == ours["samples"]
    assert theirs["bytes"] == ours["bytes"]


def test_members_that_leave_the_archive_links_and_devices_are_refused(tmp_path):
    for name, kind in (("../evil.json", tarfile.REGTYPE), ("/evil.json", tarfile.REGTYPE),
                       ("link.json", tarfile.SYMTYPE), ("device.wav", tarfile.CHRTYPE),
                       ("sparse.wav", tarfile.GNUTYPE_SPARSE)):  # fmt: skip
        path = tmp_path / "x.tar"
        with tarfile.open(path, "w") as archive:
            info = tarfile.TarInfo(name)
            info.type = kind
            archive.addfile(info)
        with pytest.raises(UserError, match="not used"):
            index_of(path)


def test_no_tar_or_a_torn_one_is_an_error(tmp_path, tar):
    (tmp_path / "x.tar").write_bytes(b"no tar at all" * 100)
    (tmp_path / "torn.tar").write_bytes(tar.read_bytes()[: tar.stat().st_size // 3])
    for name in ("x.tar", "torn.tar", "missing.tar"):
        with pytest.raises(UserError, match="not a whole uncompressed tar"):
            index_of(tmp_path / name)


def test_torn_tar_is_not_whole_and_not_read(tar):
    mark = Shard(tar).index["fingerprint"]
    assert is_whole(tar, mark)
    assert not is_whole(tar, "another")
    with tar.open("r+b") as file:
        file.truncate(1000)
    assert not is_whole(tar, mark)
    with pytest.raises(UserError, match="its index says"):
        _ = Shard(tar).samples


def test_a_wrong_index_cannot_read_beyond_the_tar(tar):
    shard = Shard(tar)
    for place in ((0, 10**15), (-5, 10), (shard.index["bytes"], 1)):
        with pytest.raises(ValueError, match="not within"):
            shard.read(*place)


def test_nothing_is_left_of_a_shard_that_failed(tmp_path):
    def interrupted():
        with whole_shard(tmp_path / "000000.tar", "m") as writer:
            writer.add("a", {"json": b"{}"})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_an_open_shard_travels_to_another_process(tar):
    shard = Shard(tar)
    expected = shard.member(shard.samples[0], "json")
    copy = pickle.loads(pickle.dumps(shard))
    assert copy.member(copy.samples[0], "json") == expected
