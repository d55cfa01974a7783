"""The version of this distribution."""

from __future__ import annotations

import importlib.metadata


def version() -> str:
    """As it was installed; `unknown` from a source tree that was not."""
    try:
        return importlib.metadata.version("ostiary")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
