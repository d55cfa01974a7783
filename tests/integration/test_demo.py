"""`ostiary demo --once`, as a user runs it: it checks every scene itself, and exits 0 only if all went as it should."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from support.gateway import environment, ostiary
from support.presence import missing


@pytest.mark.parametrize("client", ["psql", "asyncpg"])
def test_the_demo_plays_through(client: str) -> None:
    if client == "psql" and shutil.which("psql") is None:
        missing("psql is not installed")
    done = subprocess.run(
        [*ostiary(), "demo", "--once", "--client", client],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert "scenes went as they should" in done.stdout
    # Where the agent's side shows an email or a card number, that is all the demo is about.
    agent_side = [line.split("││")[0] for line in done.stdout.splitlines() if "││" in line]
    assert len(agent_side) > 20
    assert not [line for line in agent_side if re.search(r"@mail\.example|\b\d{15,16}\b", line)]
    assert "event was changed" in done.stdout
    assert "needs one of the shop's owners" in done.stdout
