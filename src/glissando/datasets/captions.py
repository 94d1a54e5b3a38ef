"""What is written about the audio files of a folder: sidecar files, a table, a template."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Any

from glissando.datasets.base import Refused
from glissando.errors import UserError

TABLES = ("captions.csv", "metadata.csv")
FILE_COLUMNS = ("file", "file_name", "filename", "path")
CAPTION_COLUMNS = ("caption", "text", "description", "prompt")


class Captions:
    """Fields of each file below ``root``; ``template`` (or None) makes the caption of them."""

    def __init__(self, root: Path, template: str | None) -> None:
        self.root, self.template = root, template

    def fields(self, path: Path) -> dict[str, Any]:
        """The fields of one file, with a ``caption`` in any case. Refused where its sidecar is
        unreadable or the template names a field it lacks."""
        fields = self._written(path)
        return {**fields, "caption": captioned(fields, self.template, path.stem)}

    def group(self, path: Path) -> str:
        """The field ``group`` if the file has one, else its path below the root without
        the ending, so that song.wav and song.mp3 stay together."""
        try:
            group = self._written(path).get("group")
        except Refused:
            group = None
        return str(group) if group else path.relative_to(self.root).with_suffix("").as_posix()

    def is_bare(self, path: Path) -> bool:
        """Does nothing but the file's name say what it is?"""
        try:
            fields = self._written(path)
        except Refused:
            return False
        return self.template is None and not any(fields.get(name) for name in CAPTION_COLUMNS)

    def _written(self, path: Path) -> dict[str, Any]:
        facts, text = path.with_suffix(".json"), path.with_suffix(".txt")
        try:
            if facts.is_file():
                fields = json.loads(facts.read_bytes())
                if not isinstance(fields, dict):
                    raise Refused("its .json is not an object {…}")
                return fields
            if text.is_file():
                return {"caption": text.read_text(encoding="utf-8").strip()}
        except (ValueError, OSError) as error:
            raise Refused(f"its .json or .txt is unreadable ({error})") from None
        return dict(self._table.get(path.relative_to(self.root).as_posix(), {}))

    @cached_property
    def _table(self) -> dict[str, dict[str, str]]:
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
        return str(next(found, name)).strip()
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


def _read_table(path: Path) -> dict[str, dict[str, str]]:
    rows = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            column = next((name for name in FILE_COLUMNS if name in columns), None)
            if column is None:
                raise UserError(f"{path} has no column {' or '.join(FILE_COLUMNS)}")
            for row in reader:
                fields = {k: v for k, v in row.items() if k and k != column and v}
                rows[(row[column] or "").removeprefix("./")] = fields
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not readable as CSV in UTF-8 ({error})") from None
    return rows
