"""Which of the hot modules run compiled, and OSTIARY_PURE=1: run them all from their Python source instead."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

_HERE: Final = Path(__file__).parent


def names() -> tuple[str, ...]:
    """The modules that are compiled where there is a C compiler, as compiled.txt lists them."""
    lines = _HERE.joinpath("compiled.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def source(name: str) -> Path:
    """The Python source of one of them."""
    return _HERE.joinpath(*name.split(".")[1:]).with_suffix(".py")


def compiled(name: str) -> Path | None:
    """The extension that would be imported for it, if it was built for this interpreter."""
    stem = source(name).with_suffix("")
    found = (stem.with_name(stem.name + suffix) for suffix in importlib.machinery.EXTENSION_SUFFIXES)
    return next((path for path in found if path.exists()), None)


def stale(name: str) -> bool:
    """Was its extension built from an older source, or from older declarations, than those beside it?"""
    extension = compiled(name)
    if extension is None:
        return False
    built = extension.stat().st_mtime
    texts = (source(name), source(name).with_suffix(".pxd"))
    return any(text.exists() and text.stat().st_mtime > built for text in texts)


def to_be_compiled() -> bool:
    """Is this a checkout whose extensions are older than their sources, or only a part of them?

    Compiled modules rely on each other's declarations, so then all of them run from source, as they are now.
    """
    if not _HERE.parents[1].joinpath("setup.py").exists():
        return False
    found = [name for name in names() if compiled(name)]
    return bool(found) and (len(found) < len(names()) or any(stale(name) for name in found))


class _SourceOnly:
    """A finder that sees no extension where there is the source."""

    def __init__(self) -> None:
        self._names = frozenset(names())

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._names:
            return None
        return importlib.util.spec_from_file_location(name, source(name))


def how() -> str:
    """How the hot modules run here, for a person."""
    if any(isinstance(finder, _SourceOnly) for finder in sys.meta_path):
        return "no: from source"
    found = sum(compiled(name) is not None for name in names())
    return f"{found} of {len(names())} modules" if found else "no: from source"


def install() -> None:
    """From now on the modules are imported from their source. Before any of them is imported."""
    sys.meta_path.insert(0, _SourceOnly())
