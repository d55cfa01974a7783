"""Recorders on real files, and short names for the events that tests record."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from ostiary_gateway.audit.event import SessionOpened, SessionRecord
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_policy.decision import Action, Decision, Matched, RuleRef

sys.path.insert(0, str(Path(__file__).parents[3]))

READS = RuleRef("prod", "agents", "reads", "sha256:1")
DROPS = RuleRef("prod", "agents", "no-drop", "sha256:1")
ALLOW = Decision(Action.ALLOW, READS, "", matched=(Matched(READS, "Allow", True, 0),))
DENY = Decision(Action.DENY, DROPS, "Dropping a database is not allowed.", "Ask the platform team.")
ASK = Decision(Action.REQUIRE_APPROVAL, RuleRef("prod", "agents", "big-writes", "sha256:1"), "A person must agree.")


class Play:
    """Records what a gateway would, one call a step."""

    allow, deny, ask = ALLOW, DENY, ASK

    def __init__(self, recorder: FileRecorder) -> None:
        self.recorder = recorder
        self.sessions: dict[str, SessionRecord] = {}

    def open(self, session: str, recording: str = "Full", username: str = "planner") -> None:
        self.sessions[session] = self.recorder.session_opened(
            SessionOpened(
                session,
                time.time(),
                "prod/app",
                "Postgres",
                {"username": username, "groups": ["agents"]},
                {"address": "10.0.0.7", "application": "psql"},
                {"database": "app"},
                recording,
            )
        )

    def begin(
        self,
        session: str,
        request: int,
        text: str = "select 1",
        decision: Decision = ALLOW,
        *,
        durable: bool = False,
        detail: dict[str, object] | None = None,
    ) -> Awaitable[None] | None:
        return self.sessions[session].begin(request, time.time(), text, detail or {}, decision, durable)

    def respond(self, session: str, request: int, data: bytes) -> None:
        self.sessions[session].response(request, data)

    def end(
        self,
        session: str,
        request: int,
        outcome: str = "ok",
        rows: int = 0,
        size: int = 0,
        *,
        detail: dict[str, object] | None = None,
    ) -> None:
        told = {"tags": [f"SELECT {rows}"]} if detail is None else detail
        self.sessions[session].end(request, time.time(), outcome, told, rows, size)

    def close(self, session: str) -> None:
        self.sessions[session].closed(time.time(), "the client went away", 0)

    async def run(self, session: str, request: int, text: str, response: bytes) -> None:
        """A request from begin to end."""
        waiting = self.begin(session, request, text, durable=True)
        if waiting is not None:
            await waiting
        self.respond(session, request, response)
        self.end(session, request, rows=1, size=len(response))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "audit.db"


@pytest.fixture
def play() -> Callable[[FileRecorder], Play]:
    return Play


@pytest.fixture
async def recorder(path: Path) -> AsyncIterator[FileRecorder]:
    recorder = await FileRecorder.open(path)
    yield recorder
    await recorder.close()
