"""What a machine must have for a test, and what happens where it does not."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """A server or client that is not here: a failure where CI=true, a skip elsewhere. `what` says what to type."""
    if os.environ.get("CI", "") not in ("", "0", "false"):
        pytest.fail(what)
    pytest.skip(what)
