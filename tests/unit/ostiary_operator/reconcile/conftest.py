"""Makes tests/support importable, and gives each test an empty cluster."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from support.world import World


@pytest.fixture
def world() -> World:
    return World()
