"""The tables of docs/masking.md are those of this version."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["detectors"])
def test_a_table_is_what_its_command_makes(name: str) -> None:
    text = (ROOT / "docs" / "masking.md").read_text(encoding="utf-8")
    assert script(name).document(text) == text, f"run: python benchmarks/{name}.py --write"
