"""What is compiled passes the same tests as plain Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("audit", "masking", "protocols")
ELSEWHERE = ("protocols/postgres/test_facts_parse.py", "audit/test_durability.py")
"""About PostgreSQL's parser and about the disk: long, and the same either way."""


@pytest.mark.slow
@pytest.mark.skipif(bool(os.environ.get("OSTIARY_PURE")), reason="all tests run from source already")
def test_the_compiled_modules_from_their_source() -> None:
    tests = ROOT / "tests" / "unit" / "ostiary_gateway"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(str(tests / room) for room in ROOMS)]
    command += [f"--ignore={tests / name}" for name in ELSEWHERE]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OSTIARY_PURE": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
