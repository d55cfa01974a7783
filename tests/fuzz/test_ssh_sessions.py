"""Whatever agent and target say over SSH: the gateway keeps to the protocol, and nothing undecided goes on."""

from __future__ import annotations

from support.fuzzing import Target
from support.ssh_model import Model


def run(data: bytes) -> str:
    """Two bytes for each step of either end (tests/support/ssh_model.py)."""
    return Model(data).over


TARGET = Target("ssh_sessions", run, longest=600)


def test_ssh_sessions() -> None:
    TARGET.replay(600)
