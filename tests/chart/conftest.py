"""The chart, rendered by Helm."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import helm
from support.cluster import Unavailable


@pytest.fixture(scope="session", autouse=True)
def _helm() -> None:
    try:
        helm.binary()
    except Unavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))
