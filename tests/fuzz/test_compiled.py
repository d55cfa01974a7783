"""The compiled modules and their Python source do the same with the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).with_name("run.py")
TARGETS = ("wire", "hostile_server", "rows", "copies", "folding", "kubernetes_masks")
MUTATIONS = 600


def digests(**environment: str) -> list[str]:
    command = [sys.executable, str(RUN), "--digest", str(MUTATIONS), *TARGETS]
    inherited = {name: value for name, value in os.environ.items() if name != "OSTIARY_PURE"}
    done = subprocess.run(command, env={**inherited, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_compiled_and_pure_do_the_same() -> None:
    found = digests()
    assert len(found) == len(TARGETS)
    assert digests(OSTIARY_PURE="1") == found
