"""The tables of docs/masking.md are those of this version."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def script(path: str) -> ModuleType:
    name = f"script_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", ["benchmarks/detectors.py", "tests/support/mask_cases.py"])
def test_a_table_is_what_its_command_makes(path: str) -> None:
    text = (ROOT / "docs" / "masking.md").read_text(encoding="utf-8")
    assert script(path).document(text) == text, f"run: python {path} --write"
