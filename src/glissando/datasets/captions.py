"""What is written about the audio files of a folder: sidecar files, a table, a template."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Any

from glissando.datasets.base import Refused
from glissando.errors import UserError

TABLES = tuple(
    f"{name}.{kind}" for name in ("captions", "metadata") for kind in ("csv", "parquet", "jsonl")
)
FILE_COLUMNS = ("file", "file_name", "filename", "path")
CAPTION_COLUMNS = ("caption", "text", "description", "prompt")
#: Bytes beyond which a json or txt is no description of a clip.
LONGEST_TEXT = 16 * 2**20


class Captions:
    """Fields of each file below ``root``; ``template`` (or None) makes the caption of them."""

    def __init__(self, root: Path, template: str | None) -> None:
        self.root, self.template = root, template

    def fields(self, path: Path, tags: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The fields of one file, with a ``caption`` in any case; ``tags`` are the file's own, for
        what is written nowhere else. Refused where its sidecar is unreadable, its caption is no
        text or the template names a field it lacks."""
        fields = {**(tags or {}), **self.written(path)}
        return {**fields, "caption": captioned(fields, self.template, path.stem)}

    def group(self, path: Path) -> str:
        """The field ``group`` if the file has one, else its path below the root without
        the ending, so that song.wav and song.mp3 stay together."""
        try:
            group = self.written(path).get("group")
        except Refused:
            group = None
        return str(group) if group else path.relative_to(self.root).with_suffix("").as_posix()

    def is_bare(self, path: Path) -> bool:
        """Does nothing but the file's name say what it is?"""
        try:
            fields = self.written(path)
        except Refused:
            return False
        return self.template is None and not any(fields.get(name) for name in CAPTION_COLUMNS)

    def written(self, path: Path) -> dict[str, Any]:
        """What is written of a file: its ``.json``, else its ``.txt``, else its row of the table.
        Refused where that is unreadable."""
        facts, text = path.with_suffix(".json"), path.with_suffix(".txt")
        try:
            if facts.is_file():
                short(facts.stat().st_size, ".json")
                fields = json.loads(facts.read_bytes())
                if not isinstance(fields, dict):
                    raise Refused("its .json is not an object {…}")
                return fields
            if text.is_file():
                short(text.stat().st_size, ".txt")
                return {"caption": text.read_text(encoding="utf-8").strip()}
        except (ValueError, OSError, RecursionError) as error:
            raise Refused(f"its .json or .txt is unreadable ({error})") from None
        return dict(self._table.get(path.relative_to(self.root).as_posix(), {}))

    @cached_property
    def _table(self) -> dict[str, dict[str, Any]]:
        """Path below the root -> fields; UserError for a table without a column of files."""
        for name in TABLES:
            path = self.root / name
            if path.is_file():
                return _read_table(path)
        return {}


def captioned(fields: Mapping[str, Any], template: str | None, name: str) -> str:
    """The caption of a clip called ``name``: of the template, else a field, else the name.

    A template is a format string over the fields and ``name``: "{title}, {bpm:.0f} bpm",
    "{tags[0]}", "{album[year]}"; a list is written "a, b". Raises Refused for one that does not
    fit the fields.
    """
    if template is None:
        found = (fields[name] for name in CAPTION_COLUMNS if fields.get(name))
        caption = next(found, name)
        if not isinstance(caption, (str, int, float)):
            raise Refused(f"its caption is no text but a {type(caption).__name__}")
        return str(caption).strip()
    try:
        return _Plain().vformat(template, (), {"name": name, **fields}).strip()
    except (LookupError, ValueError, AttributeError, TypeError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else error
        raise Refused(f"data.caption={template!r} does not fit its fields ({why})") from None


class _Plain(Formatter):
    """Formats JSON values as one would write them; no attributes of Python objects."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        if "." in field_name or not field_name or field_name.isdigit():
            raise ValueError(f"{{{field_name}}} names no field")
        return super().get_field(field_name, args, kwargs)

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value))
        return super().format_field(value, format_spec)


def short(size: int, name: str) -> bool:
    """True; Refused where a text of ``size`` bytes is longer than a description can be."""
    if size > LONGEST_TEXT:
        raise Refused(f"its {name} has {size} bytes")
    return True


def _read_table(path: Path) -> dict[str, dict[str, Any]]:
    """Path below the table's folder -> what is written of that file."""
    read = {".csv": _csv, ".parquet": _parquet, ".jsonl": _json_lines}[path.suffix]
    rows = {}
    for row in read(path):
        column = next((name for name in FILE_COLUMNS if name in row), None)
        if column is None:
            raise UserError(f"{path} has no column {' or '.join(FILE_COLUMNS)}")
        fields = {k: v for k, v in row.items() if k and k != column and v not in (None, "")}
        rows[str(row[column] or "").removeprefix("./")] = fields
    return rows


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not set(FILE_COLUMNS) & set(reader.fieldnames or []):
                yield {}
            yield from reader
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not readable as CSV in UTF-8 ({error})") from None


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise UserError(f'{path} needs pyarrow: pip install "glissando[parquet]"') from None
    try:
        for part in parquet.ParquetFile(path).iter_batches():
            for row in part.to_pylist():
                yield {key: _plain_value(value) for key, value in row.items()}
    except (ArrowException, OSError) as error:
        raise UserError(f"{path} is not readable as Parquet ({error})") from None


def _plain_value(value: Any) -> Any:
    """A value of a Parquet column as JSON has it: dates and the like as text, bytes left out."""
    if isinstance(value, (bytes, bytearray)) or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, list):
        return [_plain_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain_value(item) for key, item in value.items()}
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line or b"{}")
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: line {number} is not readable as JSON ({error})") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} is not an object {{…}}")
        if row:
            yield row
