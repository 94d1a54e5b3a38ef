"""What is written about the audio files of a folder: sidecar files, a table, a template."""

from __future__ import annotations

import csv
import json
from functools import cached_property
from pathlib import Path
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
        found = (fields[name] for name in CAPTION_COLUMNS if fields.get(name))
        caption = str(next(found, path.stem)).strip()
        if self.template is not None:
            try:
                caption = self.template.format_map({"name": path.stem, **fields})
            except (LookupError, ValueError, AttributeError, TypeError) as error:
                raise Refused(
                    f"data.caption={self.template!r} does not fit its fields ({error})"
                ) from None
        return {**fields, "caption": caption}

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
