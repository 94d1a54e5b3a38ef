"""Every room imports only the rooms that the table in docs/design.md gives it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "glissando"


def table() -> dict[str, set[str]]:
    """Room -> the rooms it may import, from the table's first and last column."""
    allowed: dict[str, set[str]] = {}
    for line in (ROOT / "docs" / "design.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        name = re.match(r"`(\w+)(\.py|/)?`", cells[0])
        if line.startswith("|") and len(cells) == 3 and name:
            words = set(re.findall(r"\w+", cells[2]))
            allowed[name[1]] = words | (set(allowed) if "all above" in cells[2] else set())
    return allowed


def test_lightning_is_training_s_alone() -> None:
    """Models, samplers and checkpoints are to be used without it."""
    for path in PACKAGE.glob("**/*.py"):
        if "import lightning" in path.read_text() or "from lightning" in path.read_text():
            assert path.parent.name == "training", path


def imports(path: Path) -> set[str]:
    """Rooms that a file imports, at its top or within a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            names = [f"{base}.{a.name}" for a in node.names] if base == "glissando" else [base]
        found |= {name.split(".")[1] for name in names if name.startswith("glissando.")}
    return found


@pytest.mark.parametrize("room", sorted(
    path.stem for path in PACKAGE.iterdir()
    if path.suffix == ".py" or (path / "__init__.py").exists()
))  # fmt: skip
def test_imports_follow_the_table(room: str) -> None:
    if room in ("__init__", "__main__"):
        return
    allowed = table()
    assert room in allowed, f"{room} is not in the table of docs/design.md"
    files = [PACKAGE / f"{room}.py", *(PACKAGE / room).glob("**/*.py")]
    for path in filter(Path.exists, files):
        wrong = imports(path) - allowed[room] - {room, "errors", "__version__"}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"
