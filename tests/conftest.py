"""What is tested is what the sources say: no compiled module is older than its source, and CI has all of them."""

from __future__ import annotations

import os

import pytest

from ostiary_gateway import _pure


def pytest_configure() -> None:
    if os.environ.get("OSTIARY_PURE"):
        return
    stale, absent = [], []
    for name in _pure.names():
        extension = _pure.compiled(name)
        if extension is None:
            absent.append(name)
        elif _pure.stale(name):
            stale.append(name)
    if stale:
        raise pytest.UsageError(
            f"Compiled from an older source: {', '.join(stale)}. Run `make compile`."
        )
    if absent and os.environ.get("OSTIARY_REQUIRE_COMPILED"):
        raise pytest.UsageError(
            f"OSTIARY_REQUIRE_COMPILED is set, and {len(absent)} modules are not compiled: {absent[0]} …"
            " Run `make compile`; it needs a C compiler and Python's headers (on Debian: gcc, python3-dev)."
        )
