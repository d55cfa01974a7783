"""Rules of the house that no linter checks."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for room in ("crds", "gateway", "operator") for path in (ROOT / room).rglob("*.py") if path.is_file()
)
MAX_LINES = 600


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_for_and_fits_a_head(path: Path) -> None:
    text = path.read_text("utf-8")
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert text.count("\n") <= MAX_LINES


def test_tracked_files_name_no_machine() -> None:
    """Where a checkout or a home happens to be has no place in a repository."""
    here = re.compile("|".join(rf"(?<![\w/.]){re.escape(str(path))}/" for path in (ROOT, Path.home())))
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found = []
    for name in names:
        path = ROOT / name
        if not path.is_file() or path.suffix in (".sum", ".svg", ".png", ".jar"):
            continue
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            if here.search(line):
                found.append(f"{name}:{number}: {line.strip()[:100]}")
    assert not found


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "tests/clients/node/package-lock.json"])
def test_lock_files_name_no_registry(name: str) -> None:
    """Each is installed from the registry that its user has configured."""
    assert not re.search(r'index-url|find-links|"resolved"|@ https?:', (ROOT / name).read_text())


def test_lock_files_hold_every_dependency_by_hash() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = (ROOT / "requirements.lock").read_text()
    for dependency in project["dependencies"]:
        name = re.split(r"[<>=;\[ ]", dependency)[0].lower().replace("_", "-")
        assert re.search(rf"^{re.escape(name)}==[^ ]+.*\\$", locked, re.MULTILINE | re.IGNORECASE), dependency
    for text in (locked, (ROOT / "requirements-dev.lock").read_text()):
        pins = re.findall(r"^[a-z0-9][\w.-]*==", text, re.MULTILINE | re.IGNORECASE)
        assert len(pins) == len(
            re.findall(r"^[a-z0-9][\w.-]*==.*\n    --hash=sha256:", text, re.MULTILINE | re.IGNORECASE)
        )


def test_links_in_the_documentation_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken
