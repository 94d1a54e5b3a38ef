"""What is written about a folder's files, in every form that it may have."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from glissando.datasets.base import Refused
from glissando.datasets.captions import captioned
from glissando.datasets.folder import Folder
from glissando.datasets.prepare import prepare
from glissando.errors import UserError

FIELDS = {
    "title": "Aria", "bpm": 89.6, "tags": ["calm", "harp"], "album": {"year": 1741}, "live": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("template", "caption"),
    [
        ("{title}, {bpm:.0f} bpm", "Aria, 90 bpm"),
        ("{tags}", "calm, harp"),
        ("{tags[1]} of {album[year]}", "harp of 1741"),
        ("{name}: {title!r} {{x}}", "song: 'Aria' {x}"),
        ("live: {live}", "live: False"),
        ("always this", "always this"),
    ],
)
def test_a_template_uses_any_field(template, caption):
    assert captioned(FIELDS, template, "song") == caption


@pytest.mark.parametrize(
    "template",
    ["{mood}", "{tags[7]}", "{album[label]}", "{title:.2f}", "{", "{}", "{0}", "{title.__class__}"],
)
def test_a_template_that_does_not_fit_is_named(template):
    with pytest.raises(Refused, match=r"data\.caption=.* does not fit its fields"):
        captioned(FIELDS, template, "song")


def tones(root: Path, *names: str) -> None:
    for name in names:
        wave = 0.5 * np.sin(np.arange(8000) / 9)
        soundfile.write(root / name, wave, 8000)


def attributes(root: Path, **options):
    folder = Folder(root, sample_rate=8000, **options)
    return {
        job.path.stem: folder.make(job).attributes
        for jobs in folder.jobs().values()
        for job in jobs
    }


def test_tables_of_every_kind(tmp_path):
    rows = [
        {"file": "a.wav", "caption": "first", "bpm": 90, "tags": ["x", "y"], "none": None},
        {"file": "./deep/b.wav", "caption": "second", "bpm": 120, "tags": [], "none": None},
    ]
    for kind in ("csv", "parquet", "jsonl"):
        root = tmp_path / kind
        (root / "deep").mkdir(parents=True)
        tones(root, "a.wav", "deep/b.wav")
        table = root / f"metadata.{kind}"
        if kind == "csv":
            table.write_text("file,caption,bpm\na.wav,first,90\n./deep/b.wav,second,120\n")
        elif kind == "jsonl":
            table.write_text("\n".join(map(json.dumps, rows)) + "\n")
        else:
            pyarrow = pytest.importorskip("pyarrow")
            from pyarrow import parquet

            made = [{**row, "day": datetime.date(2020, 2, 3), "cover": b"png"} for row in rows]
            parquet.write_table(pyarrow.Table.from_pylist(made), table)
        found = attributes(root, caption="{caption} at {bpm}")
        assert [found[name]["caption"] for name in "ab"] == ["first at 90", "second at 120"]
        if kind != "csv":
            assert (found["a"]["bpm"], found["a"]["tags"]) == (90, ["x", "y"])
            assert "none" not in found["a"]
        if kind == "parquet":
            assert found["a"]["day"] == "2020-02-03"
            assert "cover" not in found["a"]
        report = prepare(Folder(root, sample_rate=8000), tmp_path / f"{kind}-out", progress=False)
        assert (report.clips, report.refused) == (2, {})


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("captions.csv", b"song,caption\na.wav,x\n", "no column file or file_name"),
        ("captions.csv", b"\xff\xfe\x00\x00", "not readable as CSV"),
        ("captions.parquet", b"PAR1 no", "not readable as Parquet"),
        ("metadata.jsonl", b'{"file": "a.wav"}\n[1]\n', "line 2 is not an object"),
        ("metadata.jsonl", b"{'file'}\n", "line 1 is not readable as JSON"),
    ],
)
def test_a_table_of_no_use_is_one_line(tmp_path, name, content, line):
    tones(tmp_path, "a.wav")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=line) as error:
        Folder(tmp_path).jobs()
    assert "\n" not in str(error.value)


def test_a_files_own_tags_are_fields_below_all_others(tmp_path):
    with soundfile.SoundFile(tmp_path / "a.flac", "w", 8000, 1, format="FLAC") as sound:
        sound.title, sound.artist = "Nocturne", "Field"
        sound.write(np.zeros(8000))
    assert attributes(tmp_path)["a"]["title"] == "Nocturne"
    assert attributes(tmp_path)["a"]["caption"] == "a"
    (tmp_path / "a.json").write_text(json.dumps({"title": "Another"}))
    (found,) = attributes(tmp_path, caption="{title} by {artist}").values()
    assert found["caption"] == "Another by Field"


def test_another_caption_makes_another_clip(tmp_path):
    """Else preparing again would keep the old one."""
    music, out = tmp_path / "music", tmp_path / "out"
    music.mkdir()
    tones(music, "a.wav", "b.wav")
    (music / "a.txt").write_text("before")

    def key():
        jobs = [job for jobs in Folder(music, sample_rate=8000).jobs().values() for job in jobs]
        return {job.path.stem: job.key for job in jobs}

    first = key()
    prepare(Folder(music, sample_rate=8000), out, progress=False)
    (music / "a.txt").write_text("after")
    assert key()["a"] != first["a"]
    assert key()["b"] == first["b"]
    prepare(Folder(music, sample_rate=8000), out, progress=False)
    assert b"after" in b"".join(tar.read_bytes() for tar in out.rglob("*.tar"))
    assert b"before" not in b"".join(tar.read_bytes() for tar in out.rglob("*.tar"))


def test_a_template_and_a_list_of_sources_are_taken_as_typed(command, tmp_path):
    """Braces, commas and apostrophes all mean something to Hydra."""
    (tmp_path / "music").mkdir()
    tones(tmp_path / "music", "a.wav", "b.wav", "c.wav")
    folder = ["data=folder", "data.root=music", "data.sample_rate=8000", "prepare.workers=1"]
    said = command("prepare", *folder, "data.caption={name}, it's {name}", "prepare.shards=out")
    assert said.status == 0, said.err
    tar = b"".join(path.read_bytes() for path in sorted((tmp_path / "out").rglob("*.tar")))
    for name in (b"a", b"b", b"c"):
        assert b'"caption": "%s, it\'s %s"' % (name, name) in tar
    shards = ["data=shards", "data.sample_rate=8000", "prepare.workers=1", "data.weights=[1,2]"]
    for number, root in enumerate(
        ("out::out/{train,valid}/{000000..000000}.tar", '["out","out/train"]')
    ):
        said = command("prepare", *shards, f"data.root={root}", f"prepare.shards=all{number}")
        assert said.status == 0, said.err
    said = command("check", "data=shards", "data.root=all0", "workers=1")
    assert said.status == 1  # what refers to tars has none of its own
