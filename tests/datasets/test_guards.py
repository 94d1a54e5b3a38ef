"""Files made to do harm: refused by name in preparing and streaming, in bounded time and memory."""

from __future__ import annotations

import io
import json
import resource
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from glissando.datasets import captions, folder
from glissando.datasets.folder import Folder
from glissando.datasets.foreign import index_of
from glissando.datasets.prepare import prepare
from glissando.datasets.samples import AudioReader
from glissando.datasets.shards import Shard, index_path, write_json
from glissando.datasets.stream import ClipStream
from glissando.datasets.survey import Survey
from glissando.datasets.tars import Tars
from glissando.errors import UserError


def flac(seconds: float = 1.0, rate: int = 8000, loud: float = 0.5, claims: int | None = None):
    """FLAC of a tone; its header claims that many samples."""
    file = io.BytesIO()
    wave = loud * np.sin(np.arange(round(seconds * rate)) / 9)
    soundfile.write(file, wave, rate, format="FLAC")
    content = bytearray(file.getvalue())
    if claims is not None:  # the last 36 of the 64 bits from byte 18 on (RFC 9639, section 8.2)
        bits = int.from_bytes(content[18:26], "big")
        content[18:26] = ((bits >> 36 << 36) | claims).to_bytes(8, "big")
        assert soundfile.info(io.BytesIO(content)).frames == claims
    return bytes(content)


HOURS = 20 * 3600 * 8000
GOOD = {"caption": "fine"}


def tar(path: Path, *samples: tuple[bytes, bytes | dict]) -> Path:
    with tarfile.open(path, "w") as archive:
        for row, (audio, facts) in enumerate(samples):
            text = facts if isinstance(facts, bytes) else json.dumps(facts).encode()
            for name, content in (("flac", audio), ("json", text)):
                info = tarfile.TarInfo(f"{row:04d}.{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def referred(path: Path, out: Path) -> dict[str, list[str]]:
    splits = {"train": 1.0, "valid": 0.0, "test": 0.0}
    source = Tars(str(path), sample_rate=8000, splits=splits)
    return dict(source.prepare(out, progress=False).refused)


@pytest.fixture
def little_memory():
    """2 GiB of addresses more than there are now: what would fill the machine fails here."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + 2 * 2**30, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def test_a_header_that_claims_hours_is_refused_everywhere(tmp_path, little_memory):
    lie = flac(claims=HOURS)
    assert len(lie) < 20_000
    reason = f"its header claims {HOURS} samples in {len(lie)} bytes"
    music = tmp_path / "music"
    music.mkdir()
    (music / "lie.flac").write_bytes(lie)
    (music / "good.flac").write_bytes(flac())
    for seconds in (None, 0.5):  # windows of the lie would be 144,000 clips
        source = Folder(music, seconds=seconds, sample_rate=8000)
        report = prepare(source, tmp_path / f"{seconds}", progress=False)
        assert list(report.refused) == [reason]
    assert referred(tar(tmp_path / "x.tar", (lie, GOOD), (flac(), GOOD)), tmp_path / "out") == {
        reason: ["0000"]
    }
    heard = Survey().of(str(music), progress=False)
    assert [clip.error for clip in heard] == [None, reason]


def test_a_lie_that_could_be_true_costs_no_memory(tmp_path, little_memory):
    """Eight minutes claimed of one second: found out while decoding."""
    music = tmp_path / "music"
    music.mkdir()
    (music / "lie.flac").write_bytes(flac(claims=480 * 8000))
    (music / "good.flac").write_bytes(flac())
    report = prepare(Folder(music, sample_rate=8000), tmp_path / "out", progress=False)
    (reason,) = report.refused
    assert "truncated" in reason or "not readable" in reason


def test_what_unpacks_to_hours_is_to_be_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "LONGEST", 3)
    (tmp_path / "music").mkdir()
    (tmp_path / "music/silence.flac").write_bytes(flac(seconds=5, loud=0))
    (tmp_path / "music/good.flac").write_bytes(flac())
    report = prepare(Folder(tmp_path / "music", sample_rate=8000), tmp_path / "a", progress=False)
    assert list(report.refused) == ["longer than 3 s: cut it into clips by data.seconds="]
    source = Folder(tmp_path / "music", seconds=1.0, sample_rate=8000)
    assert prepare(source, tmp_path / "b", progress=False).clips == 6


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ([1, 2], "its json is not an object"),
        (b"{", "its json is unreadable"),
        (b"[" * 100_000, "its json is unreadable"),
        ({"caption": ["a", "list"]}, "its caption is no text"),
        ({"caption": "x", "seconds_start": "soon"}, "its seconds_start is no number"),
        ({"caption": "x", "seconds_total": True}, "its seconds_total is no number"),
        (b'{"seconds_start": NaN}', "its seconds_start is not finite"),
        (b'{"seconds_start": 1e999}', "its seconds_start is not finite"),
    ],
)
def test_wrong_types_are_refused_where_tars_are_indexed_and_read(tmp_path, facts, reason, caplog):
    text = facts if isinstance(facts, bytes) else json.dumps(facts).encode()
    path = tar(tmp_path / "x.tar", (flac(), text), *[(flac(), GOOD)] * 3)
    found = referred(path, tmp_path / "out")
    assert [keys for why, keys in found.items() if why.startswith(reason)] == [["0000"]]
    # An index that others made may list it all the same.
    index = index_of(path)
    row = index["samples"][0]
    at = path.read_bytes().index(text)
    bad = {**row, "key": "bad", "members": {**row["members"], "json": [at, len(text)]}}
    shard = tmp_path / "000000.tar"
    write_json(index_path(shard), {**index, "samples": [bad, row]})
    (batch,) = ClipStream([Shard(shard)], AudioReader(8000, 1), 0.2, 2, train=False, corrupt=1.0)
    assert batch.keys == [row["key"]] * 2
    assert reason in caplog.text


def test_texts_of_enormous_size_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "LONGEST_TEXT", 1000)
    huge = json.dumps({"caption": "x" * 2000}).encode()
    path = tar(tmp_path / "x.tar", (flac(), huge), (flac(), GOOD))
    assert referred(path, tmp_path / "out") == {f"its json has {len(huge)} bytes": ["0000"]}
    music = tmp_path / "music"
    music.mkdir()
    for name in ("a", "b", "c"):
        (music / f"{name}.flac").write_bytes(flac())
    (music / "a.json").write_bytes(huge)
    (music / "b.txt").write_bytes(b"x" * 2000)
    (music / "c.json").write_bytes(b"[" * 900)
    with pytest.raises(UserError, match="every one of 3 clips was refused"):
        prepare(Folder(music, sample_rate=8000), tmp_path / "m", progress=False)
    told = (tmp_path / "m/refused.csv").read_text()
    for reason in (f"its .json has {len(huge)} bytes", "its .txt has 2000 bytes", "unreadable"):
        assert reason in told


def test_a_caption_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "music").mkdir()
    for name, caption in (("a", {"en": "x"}), ("b", ["x"]), ("c", "x"), ("d", 7)):
        (tmp_path / f"music/{name}.flac").write_bytes(flac())
        (tmp_path / f"music/{name}.json").write_text(json.dumps({"caption": caption}))
    report = prepare(Folder(tmp_path / "music", sample_rate=8000), tmp_path / "m", progress=False)
    assert set(report.refused) == {
        "its caption is no text but a dict", "its caption is no text but a list",
    }  # fmt: skip
    rows = (tmp_path / "m/refused.csv").read_text().splitlines()
    assert rows[0] == "clip,reason"
    assert len(rows) == 3
