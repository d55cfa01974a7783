"""Facts and decision of one statement, through the same objects as a session of the gateway, on a real catalog.

Nothing is sent and nothing recorded: the time is that of reading the text, of what it does, and of the 12 rules.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Mapping

from support.servers import Server

from ostiary_gateway.audit.event import ApprovalStep, LoginRefused, SessionOpened, SessionRecord
from ostiary_gateway.checkpoint import Checkpoint
from ostiary_gateway.counters import Counters
from ostiary_gateway.feed.loading import Loaded, compile_texts
from ostiary_gateway.identity.tokens import Identity
from ostiary_gateway.loop import settle
from ostiary_gateway.protocols.postgres.auth import KeyCache
from ostiary_gateway.protocols.postgres.desk import Desk
from ostiary_gateway.protocols.postgres.questions import Admission, Ask, Stage
from ostiary_gateway.protocols.postgres.reference import Reference
from ostiary_gateway.protocols.postgres.state import SessionState
from ostiary_gateway.protocols.postgres.upstream import Aside, FixedLogin, Target
from ostiary_policy.decision import Decision
from ostiary_policy.facts import ClientFacts, SubjectFacts

NEVER_SEEN = (
    "SELECT abalance AS a{0} FROM pgbench_accounts WHERE aid = {0}",
    "SELECT bid, abalance FROM pgbench_accounts AS t{0} WHERE aid = {0}",
    "UPDATE pgbench_accounts AS t{0} SET abalance = abalance + 1 WHERE aid = {0}",
    "INSERT INTO pgbench_history (tid, bid, aid, delta) SELECT 1, 2, 3, x{0} FROM (VALUES (4)) AS v (x{0})",
)
"""Short statements that nothing but their literals have in common with an earlier one, and not even all else."""
NEW_LITERALS = (
    "SELECT abalance FROM pgbench_accounts WHERE aid = {0}",
    "UPDATE pgbench_accounts SET abalance = abalance + {0} WHERE aid = {0}",
    "INSERT INTO pgbench_history (tid, bid, aid, delta) VALUES (1, 2, {0}, 4)",
)


class Kept:
    """The record of a session, which keeps nothing."""

    def begin(
        self, number: int, at: float, text: str, detail: Mapping[str, object] | bytes, decision: Decision, durable: bool
    ) -> Awaitable[None] | None:
        return None

    def response(self, number: int, data: bytes | bytearray | memoryview) -> None: ...

    def end(
        self, number: int, at: float, outcome: str, detail: Mapping[str, object] | bytes, rows: int, size: int
    ) -> None: ...

    def closed(self, at: float, reason: str, requests: int) -> None: ...


class Nowhere:
    """A record of nothing."""

    pressure = False

    def session_opened(self, event: SessionOpened) -> SessionRecord:
        return Kept()

    def login_refused(self, event: LoginRefused) -> None: ...

    def approval(self, event: ApprovalStep) -> None: ...

    async def relieved(self) -> None: ...

    async def close(self) -> None: ...


def measure(server: Server, manifests: dict[str, str], rounds: int, count: int = 1000) -> dict[str, list[float]]:
    """Median seconds of a statement in each round: `never seen` and `new literals`."""
    return asyncio.run(_measure(server, manifests, rounds, count))


async def _measure(server: Server, manifests: dict[str, str], rounds: int, count: int) -> dict[str, list[float]]:
    desk = _desk(server, manifests)
    settle()
    found: dict[str, list[float]] = {"never seen": [], "new literals": []}
    number = 1
    for texts in (NEVER_SEEN, NEW_LITERALS):
        for text in texts:
            await _ask(desk, text.format(number := number + 1))
    for _ in range(rounds):
        for name, texts in (("never seen", NEVER_SEEN), ("new literals", NEW_LITERALS)):
            spent = []
            for at in range(count):
                number += 1
                text = texts[at % len(texts)].format(number)
                raw = text.encode()
                begun = time.perf_counter()
                admission = desk.admit(Ask(Stage.RUN, text, raw))
                spent.append(time.perf_counter() - begun)
                assert admission is not None, "the catalog was asked"
                assert admission.denial is None, admission.denial
            found[name].append(statistics.median(spent))
    desk.reference.drop()
    return found


def _desk(server: Server, manifests: dict[str, str]) -> Desk:
    loaded = compile_texts(manifests)
    assert isinstance(loaded, Loaded), loaded
    connection = next(iter(loaded.bundle.connections.values())).connection
    subject = SubjectFacts(
        username="planner", uid="", groups=["agents"], kind="User", namespace="", name="planner", claims={},
        onBehalfOf="",
    )  # fmt: skip
    state = SessionState()
    checkpoint = Checkpoint(loaded.bundle, Nowhere(), Counters())
    client = ClientFacts(address="127.0.0.1", application="bench")
    gate = checkpoint.open(connection, Identity(subject, "bench"), client, state, {})
    target = Target(server.host, server.port, server.user, server.password, None, server.host)
    reference = Reference(Aside(FixedLogin(target), server.database, KeyCache()), server.version * 10_000)
    desk = Desk(gate, reference, state, database=server.database)
    desk.settings(("public", "none", server.user, "on", "UTF8"))
    return desk


async def _ask(desk: Desk, text: str) -> Admission:
    admission = desk.admit(Ask(Stage.RUN, text, text.encode()))
    while admission is None:
        admission = desk.resume(await desk.waiting, None)
    assert admission.denial is None, admission.denial
    return admission
