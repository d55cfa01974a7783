"""Compiled modules that are older than their sources are not what runs."""

from __future__ import annotations

import importlib.machinery
import os
from pathlib import Path

import pytest

from ostiary_gateway import _pure

SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]
A, B = "ostiary_gateway.a", "ostiary_gateway.b"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with two modules, both compiled after they were written."""
    package = tmp_path / "gateway" / "ostiary_gateway"
    package.mkdir(parents=True)
    (tmp_path / "setup.py").touch()
    (package / "compiled.txt").write_text(f"# Modules\n{A}\n{B}\n")
    for name in ("a", "b"):
        written(package / f"{name}.py", 1)
        written(package / f"{name}{SUFFIX}", 2)
    monkeypatch.setattr(_pure, "_HERE", package)
    return package


def written(path: Path, time: float) -> None:
    path.touch()
    os.utime(path, (time, time))


def test_what_was_compiled_after_it_was_written_runs(package: Path) -> None:
    assert _pure.names() == (A, B)
    assert not _pure.stale(A)
    assert not _pure.to_be_compiled()
    assert _pure.how() in {"2 of 2 modules", "no: from source"}


@pytest.mark.parametrize("edited", ["a.py", "a.pxd"])
def test_after_an_edit_all_run_from_source(package: Path, edited: str) -> None:
    written(package / edited, 3)
    assert _pure.stale(A)
    assert not _pure.stale(B)
    assert _pure.to_be_compiled()


def test_where_one_could_not_be_compiled_all_run_from_source(package: Path) -> None:
    (package / f"b{SUFFIX}").unlink()
    assert _pure.to_be_compiled()


def test_where_none_is_compiled_there_is_nothing_to_shadow(package: Path) -> None:
    for name in ("a", "b"):
        (package / f"{name}{SUFFIX}").unlink()
    assert not _pure.to_be_compiled()


def test_an_installed_package_is_as_it_was_built(package: Path) -> None:
    (package.parents[1] / "setup.py").unlink()
    written(package / "a.py", 3)
    assert not _pure.to_be_compiled()
