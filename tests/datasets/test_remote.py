"""Shards on real servers: HTTP that fails in every way it can, S3 and GCS."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import servers
import torch
from tones import Tones
from torch.utils.data import DataLoader

from glissando.datasets import remote
from glissando.datasets.dataset_folder import is_prepared
from glissando.datasets.latents import encode_dataset, latent_sums
from glissando.datasets.prepare import prepare
from glissando.datasets.remote import Access, Lost
from glissando.datasets.samples import all_attributes
from glissando.datasets.shards import open_shards, read_dataset
from glissando.datasets.stores import store
from glissando.datasets.stream import open_stream
from glissando.datasets.tars import Tars
from glissando.errors import UserError

FORM = {"sample_rate": 8000, "channels": 1}


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    root = tmp_path_factory.mktemp("tones")
    prepare(Tones(37, seconds=0.5, valid=11), root, samples_per_shard=8, progress=False)
    return root


@pytest.fixture
def server(tones):
    with servers.http(tones.parent) as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Pauses of a hundredth of their length."""
    monkeypatch.setattr(remote, "sleep", lambda seconds: time.sleep(seconds / 100))


def referred(out: Path, root, **options) -> Path:
    Tars(root, **{**FORM, "retries": 2, "timeout": 5, **options}).prepare(out, progress=False)
    return out


def batches(root, workers=0, epoch=0, position=0, batch_size=4, **options):
    stream = open_stream(root, "train", 0.2, batch_size, **options)
    stream.seek(epoch, position)
    return list(DataLoader(stream, batch_size=None, num_workers=workers))


def same(a, b):
    return len(a) == len(b) and all(
        x.keys == y.keys and x.attributes == y.attributes and torch.equal(x.waveform, y.waveform)
        for x, y in zip(a, b, strict=True)
    )


@pytest.fixture
def there(server, tones, tmp_path):
    """The dataset as it is seen through the server."""
    return referred(tmp_path / "there", f"{server.url}/{tones.name}")


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_local_dataset(there, tones, workers):
    assert same(batches(there, workers), batches(tones))
    facts, local = read_dataset(there), read_dataset(tones)
    for split in ("train", "valid"):
        for name in ("shards", "samples", "seconds", "counts"):
            assert facts["splits"][split][name] == local["splits"][split][name]


def test_only_the_bytes_that_are_needed_travel(there, server, tones):
    size = sum(shard.index["bytes"] for shard in open_shards(tones, "train"))
    before, asked = server.sent, len(server.asked)
    assert len(batches(there, position=32)) == 1
    assert 0 < server.sent - before < size / 5
    heads = sum(command == "HEAD" for command, _ in server.asked[asked:])
    assert heads <= 4  # once a shard


def test_resuming_is_exact_whatever_is_cached(there, server, tones, tmp_path):
    cached = referred(tmp_path / "again", f"{server.url}/{tones.name}", cache=str(tmp_path / "c"))
    whole = batches(there, epoch=3)
    for done, root, workers in ((2, there, 0), (5, cached, 2), (3, cached, 0), (7, cached, 0)):
        assert same(whole[done:], batches(root, workers, epoch=3, position=4 * done))
    ranks = [batches(cached, epoch=3, batch_size=2, rank=r, world=2) for r in range(2)]
    for step, (a, b) in zip(whole, zip(*ranks, strict=True), strict=True):
        assert step.keys == a.keys + b.keys


def test_the_cache_is_filled_once_by_all_workers_and_noticed_when_stale(server, tones, tmp_path):
    shutil.copytree(tones, tones.parent / "changing")
    root = f"{server.url}/changing"
    out = referred(tmp_path / "out", root, cache=str(tmp_path / "c"))
    batches(out, workers=2)
    gets = [path for command, path in server.asked if command == "GET" and path.endswith(".tar")]
    assert len(gets) == len(set(gets)) == 5  # each once, and whole
    server.fault = lambda path, number: "503"
    assert same(batches(out), batches(tones))  # what is cached needs no server
    server.fault = lambda path, number: None
    for tar in (tones.parent / "changing/train").glob("*.tar"):
        tar.write_bytes(tar.read_bytes() + bytes(512))
    with pytest.raises(UserError, match=r"its index says.*glissando prepare"):
        batches(out)
    shutil.rmtree(tones.parent / "changing")


def test_a_full_disk_costs_the_cache_and_not_the_run(server, tones, tmp_path, caplog):
    (tmp_path / "c").write_text("no folder")
    out = referred(tmp_path / "out", f"{server.url}/{tones.name}", cache=str(tmp_path / "c"))
    assert same(batches(out), batches(tones))
    assert "read in parts" in caplog.text


@pytest.mark.parametrize("fault", ["503", "429", "cut", "slow"])
def test_what_passes_is_waited_for_and_changes_nothing(server, tones, tmp_path, fault):
    """Every third request fails (a slow one is given up), and is made again."""
    every, often = ({"timeout": 0.2}, 20) if fault == "slow" else ({"timeout": 5}, 3)
    server.fault = lambda path, number: fault if number % often == 1 else None
    out = referred(tmp_path / "out", f"{server.url}/{tones.name}", retries=4, **every)
    assert same(batches(out), batches(tones))


def test_a_cut_while_a_tar_is_cached_costs_a_piece(server, tones, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "PIECE", 4096)
    server.fault = lambda path, number: "cut" if number % 5 == 0 else None
    out = referred(tmp_path / "out", f"{server.url}/{tones.name}", cache=str(tmp_path / "c"))
    assert same(batches(out), batches(tones))
    for tar in sorted((tones / "train").glob("*.tar")):
        (kept,) = (tmp_path / "c").glob(f"*{tar.name}")
        assert kept.stat().st_size == tar.stat().st_size


def test_a_lost_shard_is_named_and_left_out(there, server, caplog):
    order = [key for batch in batches(there) for key in batch.keys]
    of_shard = {sample["key"] for sample in open_shards(there, "train")[1].samples}
    server.fault = lambda path, number: "503" if path.endswith("train/000001.tar") else None
    asked = server.count("000001.tar")
    with caplog.at_level(logging.WARNING):
        found = batches(there)
    assert [len(batch) for batch in found] == [4] * 9
    assert not of_shard & {key for batch in found for key in batch.keys}
    kept = [key for batch in found for key in batch.keys]
    assert all(a == b for a, b in zip(order, kept, strict=False) if a not in of_shard)
    (line,) = caplog.messages
    assert "1 of 5 now" in line
    assert "train/000001.tar: the server answers 503, 3 times" in line
    assert server.count("000001.tar") == asked + 2 * 3  # HEAD and GET, thrice, and then no more


def test_how_much_may_be_lost_is_a_flag(there, server):
    server.fault = lambda path, number: "503" if path.endswith("000001.tar") else None
    with pytest.raises(UserError, match=r"1 of 5 shards cannot be read, .* loader\.lost=0\.1 of"):
        batches(there, lost=0.1)


def test_a_lost_shard_comes_back(there, server, monkeypatch):
    from glissando.datasets import stream as streams

    monkeypatch.setattr(streams, "AGAIN", 0.0)
    whole = batches(there)
    stream = open_stream(there, "train", 0.2, 4)
    server.fault = lambda path, number: "503" if path.endswith("000001.tar") else None
    assert not same(list(stream), whole)
    server.fault = lambda path, number: None
    assert same(list(stream), whole)


def test_workers_know_together_what_is_lost(there, server):
    server.fault = lambda path, number: "503" if path.endswith("000001.tar") else None
    assert [len(batch) for batch in batches(there, workers=2)] == [4] * 9


def test_a_server_that_is_gone_is_one_line(tones, tmp_path):
    with servers.http(tones.parent) as server:
        out = referred(tmp_path / "out", f"{server.url}/{tones.name}")
    with pytest.raises(
        UserError,
        match=r"shards cannot be read, with more than loader\.lost=0\.5 .* http://127.*data\.retries=",
    ) as e:
        batches(out)
    assert "\n" not in str(e.value)
    with pytest.raises(Lost, match=r"http://127.*3 times in .*data\.retries="):
        referred(tmp_path / "new", f"{server.url}/{tones.name}")


def test_a_hung_server_is_given_up(tones, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as hung:
        url = f"http://127.0.0.1:{hung.getsockname()[1]}/x.tar"
        began = time.monotonic()
        with pytest.raises(Lost, match="no answer in time, 2 times"):
            store(url, Access(retries=1, timeout=0.3)).size()
        assert time.monotonic() - began < 30


@pytest.mark.parametrize(("status", "reason"), [("404", "no such file"), ("403", "answers 403")])
def test_what_will_not_pass_is_not_asked_again(server, tones, status, reason):
    server.fault = lambda path, number: status
    with pytest.raises(Lost, match=reason):
        store(f"{server.url}/{tones.name}/train/000000.tar", Access(retries=5)).read(0, 10)
    assert len(server.asked) == 1


def test_a_server_that_knows_no_ranges_needs_the_cache(server, tones, tmp_path):
    server.fault = lambda path, number: "whole"
    plain = referred(tmp_path / "out", f"{server.url}/{tones.name}")
    with pytest.raises(UserError, match=r"whole file when asked for a part.*data\.cache="):
        batches(plain)
    cached = referred(tmp_path / "c", f"{server.url}/{tones.name}", cache=str(tmp_path / "cache"))
    assert same(batches(cached), batches(tones))


def test_plain_tars_by_braces_are_indexed_once(server, tones, tmp_path):
    plain = tones.parent / "plain"
    plain.mkdir()
    for tar in (tones / "train").glob("*.tar"):
        shutil.copy(tar, plain / tar.name)
    root = f"{server.url}/plain/{{000000..000004}}.tar"
    splits = {"train": 0.7, "valid": 0.3}
    out = referred(tmp_path / "out", root, splits=splits)
    counts = {split: found["samples"] for split, found in read_dataset(out)["splits"].items()}
    assert sum(counts.values()) == 37
    assert counts["valid"] > 0
    local = referred(tmp_path / "local", str(plain / "{000000..000004}.tar"), splits=splits)
    assert same(batches(out), batches(local))
    assert same(batches(referred(tmp_path / "glob", str(plain), splits=splits)), batches(local))
    assert not list(plain.glob("*.json"))  # nothing is written where the tars are
    server.asked.clear()
    referred(out, root, splits=splits)
    assert {command for command, _ in server.asked} == {"HEAD"}  # what is known is not read again
    shutil.rmtree(plain)


def test_a_bad_tar_among_good_ones_is_refused_by_name(server, tones, tmp_path):
    (tones.parent / "junk.tar").write_bytes(b"junk" * 1000)
    root = f"{server.url}/{tones.name}::{server.url}/junk.tar::{server.url}/{{x,y}}.tar"
    report = Tars(root, **FORM, retries=0).prepare(tmp_path, progress=False)
    assert report.clips == 48
    assert sorted(report.refused) == [
        f"{server.url}/junk.tar is not a whole uncompressed tar (invalid header)",
        "no such file",
    ]
    assert "junk.tar" in (tmp_path / "refused.csv").read_text()
    with pytest.raises(UserError, match=r"every one of 1 clips was refused.*junk\.tar"):
        referred(tmp_path / "none", f"{server.url}/junk.tar")


def test_sources_have_weights(tones, server, tmp_path):
    prepare(Tones(10, seconds=0.5, valid=2), tmp_path / "few", progress=False)
    root = f"{server.url}/{tones.name}::{tmp_path / 'few'}"
    out = referred(tmp_path / "out", root, weights=[1, 2.5])
    stream = open_stream(out, "train", 0.2, 1)
    assert stream.samples == 37 + 25
    few = open_shards(out, "train")[-1]
    assert few.tar.startswith(str(tmp_path / "few"))
    keys = [key for batch in stream for key in batch.keys]
    assert len(keys) == 62
    assert sum(keys.count(f"tone{i:04d}") for i in range(10)) == 10 + 25  # both have these keys
    crops = {(b.keys[0], b.attributes[0]["crop_start"]) for b in stream}
    assert len(crops) == 62  # a sample that comes again is cropped anew
    assert open_stream(out, "valid", 0.2, 1).samples == 13
    again = open_stream(out, "train", 0.2, 2, rank=1, world=2)
    again.seek(1, position=20)
    whole = open_stream(out, "train", 0.2, 2, rank=1, world=2)
    whole.seek(1)
    assert [b.keys for b in again] == [b.keys for b in whole][5:]


def test_another_access_changes_no_clip(there, server, tones):
    mark = read_dataset(there)["fingerprint"]
    source = Tars(f"{server.url}/{tones.name}", **FORM, retries=1)
    settings = json.loads(json.dumps(source.settings()))
    assert not is_prepared(there, "shards", settings, source.access)
    source.prepare(there, progress=False)
    assert is_prepared(there, "shards", settings, source.access)
    assert read_dataset(there)["fingerprint"] == mark
    assert read_dataset(there)["access"]["retries"] == 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"root": "::"}, r"data\.root= names no shards"),
        ({"root": "/nowhere/{0..9"}, "braces do not match"),
        ({"root": "/x{0..999999}.tar"}, "more than 100000 tars"),
        ({"root": "/nowhere"}, r"data\.root=/nowhere: no tars there"),
        ({"root": "ftq://x/y.tar"}, r"data\.root=ftq://x/y.tar cannot be opened"),
        ({"root": "a::b", "weights": [1]}, r"data\.weights=\[1\] must have one number"),
        ({"root": "a", "weights": [0]}, r"data\.weights=\[0\]"),
        ({"root": "a", "retries": -1}, r"data\.retries must be"),
        ({"root": "a", "timeout": 0}, r"data\.timeout must be"),
        ({"root": "a", "splits": {"train": 0.5}}, r"data\.splits"),
        ({"root": "a", "channels": 0}, r"data\.channels must be at least 1"),
    ],
)
def test_mistakes_name_the_flag(options, line, tmp_path):
    with pytest.raises(UserError, match=line) as error:
        Tars(**options).prepare(tmp_path / "out", progress=False)
    assert "\n" not in str(error.value)


def test_an_index_from_elsewhere_cannot_mislead(tones, server, tmp_path):
    for name, change in (
        ("negative", {"members": {"flac": [-5, 10]}}),
        ("text", {"frames": "many"}),
        ("float", {"rate": 8000.5}),
        ("list", {"key": ["a"]}),
    ):
        bad = tones.parent / name
        shutil.copytree(tones, bad)
        path = bad / "train/000000.index.json"
        index = json.loads(path.read_text())
        index["samples"][0] |= change
        path.write_text(json.dumps(index))
        report = Tars(f"{server.url}/{name}", **FORM).prepare(tmp_path / name, progress=False)
        assert report.clips == 48 - 8
        assert any("its index is unreadable" in reason for reason in report.refused)
        shutil.rmtree(bad)


class Bucket(NamedTuple):
    """What the owner of a bucket ``music`` does: ``put(key, bytes)`` and ``remove(key)``."""

    put: Callable[[str, bytes], Any]
    remove: Callable[[str], Any]


@pytest.fixture
def s3(monkeypatch):
    """Of an S3 that answers on loopback."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    import boto3

    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="music")
        yield Bucket(
            lambda key, content: client.put_object(Bucket="music", Key=key, Body=content),
            lambda key: client.delete_object(Bucket="music", Key=key),
        )
    finally:
        server.stop()


@pytest.fixture
def gs(monkeypatch):
    """Of a GCS that answers on loopback, as gcsfs sees it."""
    # Before gcsfs is imported: it would ask by gRPC what kind of bucket it is, and wait for long.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    pytest.importorskip("gcsfs")
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    import fsspec

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="music")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setitem(fsspec.config.conf, "gcs", {"token": "anon", "skip_instance_cache": True})
    with server:
        files = fsspec.filesystem("gcs")
        yield Bucket(
            lambda key, content: files.pipe_file(f"music/{key}", content),
            lambda key: files.rm(f"music/{key}"),
        )


@pytest.mark.parametrize("scheme", ["s3", pytest.param("gs", marks=pytest.mark.slow)])
def test_a_bucket_is_read_as_a_folder_is(scheme, request, tones, coded, tmp_path):
    bucket, music = request.getfixturevalue(scheme), f"{scheme}://music"
    for name, root in (("set", tones), ("coded", coded)):
        for path in root.rglob("*"):
            if path.is_file():
                bucket.put(f"{name}/{path.relative_to(root).as_posix()}", path.read_bytes())
    prepared = referred(tmp_path / "out", f"{music}/set")
    assert same(batches(prepared), batches(tones))
    assert same(batches(prepared, workers=2, position=12), batches(tones, position=12))
    plain = referred(tmp_path / "plain", f"{music}/set/train/{{000000..000004}}.tar")
    listed = referred(tmp_path / "listed", f"{music}/set/train/*.tar")
    assert same(batches(plain), batches(listed))
    cached = referred(tmp_path / "c", f"{music}/set", cache=str(tmp_path / "cache"))
    assert same(batches(cached), batches(tones))
    there = referred(tmp_path / "z", f"{music}/coded")
    assert latents(open_stream(there, "train", 0.2, 4)) == latents(
        open_stream(coded, "train", 0.2, 4)
    )
    bucket.remove("set/train/000001.tar")
    assert [len(batch) for batch in batches(prepared)] == [4] * 9
    with pytest.raises(UserError, match=rf"data\.root={music}/nothing: no tars there"):
        referred(tmp_path / "none", f"{music}/nothing")


def mean(wave):
    """(B, 1, L) -> (B, 2, 1, T): the mean of each hop, and its negative."""
    mean = wave.unflatten(-1, (-1, 100)).mean(-1, keepdim=True).transpose(-1, -2)
    return torch.cat([mean, -mean], 1)


def latents(stream, workers=0):
    return [
        (batch.keys, batch.attributes, batch.latent.tolist())
        for batch in DataLoader(stream, batch_size=None, num_workers=workers)
    ]


@pytest.fixture(scope="module")
def coded(tones):
    out = tones.parent / "coded"
    encode_dataset(tones, out, mean, "mean", 100, progress=False)
    return out


def test_latents_on_a_server_are_those_on_the_disk(coded, server, tmp_path):
    out = referred(tmp_path / "out", f"{server.url}/coded")
    facts, local = read_dataset(out), read_dataset(coded)
    assert facts["kind"] == "latent"
    for name in ("sample_rate", "channels", "hop", "latent", "representation"):
        assert facts[name] == local[name]
    whole = latents(open_stream(coded, "train", 0.2, 4))
    server.asked.clear()
    assert latents(open_stream(out, "train", 0.2, 4)) == whole
    assert server.count(".tar") == 36 + 5  # a request a sample, json and all; a shard's size
    assert latents(open_stream(out, "train", 0.2, 4), workers=2) == whole
    assert latents(open_stream(out, "valid", None, 4)) == latents(
        open_stream(coded, "valid", None, 4)
    )
    cached = referred(tmp_path / "c", f"{server.url}/coded", cache=str(tmp_path / "cache"))
    assert latents(open_stream(cached, "train", 0.2, 4)) == whole
    server.fault = lambda path, number: "503"
    assert latents(open_stream(cached, "train", 0.2, 4)) == whole  # which needs no server
    server.fault = lambda path, number: "cut" if number % 3 == 1 else None
    assert latents(open_stream(out, "train", 0.2, 4)) == whole
    stream = open_stream(out, "train", 0.2, 4)
    stream.seek(0, position=12)
    assert latents(stream) == whole[3:]
    assert torch.equal(latent_sums(out, progress=False)[0], latent_sums(coded, progress=False)[0])
    attributes = [row for shard in open_shards(out, "train") for row in all_attributes(shard)]
    assert [row["caption"] for row in attributes] == [f"ramp {i}" for i in range(37)]


def test_lost_latents_are_left_out_and_named(coded, server, tmp_path, caplog):
    out = referred(tmp_path / "out", f"{server.url}/coded")
    server.fault = lambda path, number: "503" if path.endswith("train/000001.tar") else None
    found = latents(open_stream(out, "train", 0.2, 4))
    assert [len(keys) for keys, *_ in found] == [4] * 9
    assert "1 of 5 now" in caplog.text
    assert "train/000001.tar: the server answers 503" in caplog.text


def test_audio_on_a_server_is_encoded_as_on_the_disk(coded, server, tones, there, tmp_path):
    server.fault = lambda path, number: "503" if number % 7 == 0 else None
    encode_dataset(there, tmp_path / "z", mean, "mean", 100, progress=False)
    assert latents(open_stream(tmp_path / "z", "train", 0.2, 4)) == latents(
        open_stream(coded, "train", 0.2, 4)
    )
    # A clip that a server no longer has is no clip that cannot be encoded.
    server.fault = lambda path, number: "404" if number > at + 9 else None
    at = len(server.asked)
    with pytest.raises(Lost):
        encode_dataset(there, tmp_path / "y", mean, "mean", 100, progress=False)
    server.fault = lambda path, number: None
    facts = encode_dataset(there, tmp_path / "y", mean, "mean", 100, progress=False)
    assert facts["splits"]["train"]["samples"] == 37


@pytest.mark.parametrize(
    ("root", "options", "line"),
    [
        ("coded::{tones}", {}, r"mixes .*coded and .* are latents of different repr.*or .* audio"),
        ("coded::other", {}, r"mixes .*coded and .*other are latents of different"),
        ("coded", {"sample_rate": 16000}, r"sample_rate 8000: set data\.sample_rate=8000"),
        ("coded", {"channels": 2}, r"channels 1: set data\.channels=1"),
    ],
)
def test_latents_that_do_not_go_together(coded, tones, tmp_path, root, options, line):
    if "other" in root:
        encode_dataset(tones, tones.parent / "other", mean, "another", 100, progress=False)
    names = [str(tones.parent / name.format(tones=tones.name)) for name in root.split("::")]
    with pytest.raises(UserError, match=line) as error:
        referred(tmp_path / "out", names, **options)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_training_from_a_server_is_training_from_the_disk(train, tmp_path, songs):
    from glissando.datasets.folder import Folder
    from tiny import RATE, VAE, numbers

    prepare(Folder(songs, sample_rate=RATE), tmp_path / "set", progress=False)
    with servers.http(tmp_path) as server:
        server.fault = lambda path, number: "503" if number % 5 == 0 else None
        for name, root in (("disk", tmp_path / "set"), ("server", f"{server.url}/set")):
            data = ["data=shards", f"data.root={root}", f"prepare.shards={tmp_path / name}"]
            train(tmp_path / f"run-{name}", *VAE, *data, "trainer.max_steps=3")
    assert len(numbers(tmp_path / "run-disk")) >= 3
    assert numbers(tmp_path / "run-disk") == numbers(tmp_path / "run-server")


@pytest.mark.slow
def test_training_on_latents_from_a_server(train, vae, tmp_path, tmp_path_factory):
    """It is training on those that it would have encoded itself; others are refused."""
    from tiny import DIT, VAE, numbers

    model = [*DIT, f"representation.autoencoder={vae}", "trainer.max_steps=2"]
    train(tmp_path / "audio", *model)
    (made,) = tmp_path_factory.getbasetemp().glob("shared[0-9]*/data/latents/*/dataset.json")
    with servers.http(made.parent.parent) as server:
        there = [
            "data=shards", f"data.root={server.url}/{made.parent.name}",
            f"prepare.shards={tmp_path / 'there'}", "data.sample_rate=8000",
        ]  # fmt: skip
        train(tmp_path / "latents", *model, *there)
        assert numbers(tmp_path / "latents") == numbers(tmp_path / "audio")
        assert len(numbers(tmp_path / "latents")) >= 2
        with pytest.raises(UserError, match="holds latents where audio is needed"):
            train(tmp_path / "vae", *VAE, *there, "trainer.max_steps=1")
        with pytest.raises(UserError, match=r"of the representation .*set representation="):
            train(tmp_path / "mel", *DIT, *there, "representation=waveform", "trainer.max_steps=1")
        with pytest.raises(UserError, match=r"no curves beside them: set conditioner="):
            train(tmp_path / "curves", *model, *there, "conditioner=melody",
                "conditioning=[adaln_zero,channel_concat]")  # fmt: skip
