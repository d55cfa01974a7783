"""A desk for SSH without sockets: policies, a record that is kept in memory, and people who answer."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.gateway import Manifest
from support.policies import bundle, subject
from support.servers import scratch

from ostiary_api.connection import Connection
from ostiary_api.policy import GatewayPolicy
from ostiary_gateway.approvals.local import Answer, LocalApprovals
from ostiary_gateway.audit.event import ApprovalStep, LoginRefused, RecordError, SessionOpened, SessionRecord
from ostiary_gateway.audit.intake import Pending
from ostiary_gateway.checkpoint import Checkpoint
from ostiary_gateway.counters import Counters
from ostiary_gateway.identity.proof import Identity
from ostiary_gateway.protocols.ssh.desk import Desk
from ostiary_gateway.protocols.ssh.questions import Admission, Question
from ostiary_policy.decision import Decision
from ostiary_policy.facts import ClientFacts

USER = "deploy"
PERMITS = ["permit-pty", "permit-port-forwarding", "permit-agent-forwarding", "permit-X11-forwarding"]
HOST = "web.example"


@dataclass
class Kept:
    """One request, as it was recorded."""

    text: str
    detail: Mapping[str, object]
    decision: Decision
    outcome: str = ""
    ended: Mapping[str, object] = field(default_factory=dict)
    response: bytes = b""


class Memory:
    """A Recorder whose records are lists. `full`: nothing more can be written. `slow`: durable when it is told so."""

    pressure = False

    def __init__(self) -> None:
        self.requests: list[Kept] = []
        self.pending: list[Pending] = []
        self.full = self.slow = False

    def session_opened(self, event: SessionOpened) -> SessionRecord:
        return self

    def login_refused(self, event: LoginRefused) -> None: ...

    def approval(self, event: ApprovalStep) -> None: ...

    async def relieved(self) -> None: ...

    def begin(
        self, number: int, at: float, text: str, detail: Mapping[str, object] | bytes, decision: Decision, durable: bool
    ) -> Pending | None:
        if self.full:
            raise RecordError("the disk is full")
        assert isinstance(detail, Mapping)
        self.requests.append(Kept(text, detail, decision))
        if not (durable and self.slow):
            return None
        self.pending.append(Pending())
        return self.pending[-1]

    def response(self, number: int, data: bytes | bytearray | memoryview) -> None:
        self.requests[number - 1].response += bytes(data)

    def end(
        self, number: int, at: float, outcome: str, detail: Mapping[str, object] | bytes, rows: int, size: int
    ) -> None:
        assert isinstance(detail, Mapping)
        kept = self.requests[number - 1]
        assert not kept.outcome, "a request ends once"
        kept.outcome, kept.ended = outcome, detail

    def closed(self, at: float, reason: str, requests: int) -> None: ...

    async def close(self) -> None: ...


class NoTally:
    rows = bytes = written = 0


@dataclass
class Office:
    """The desk, and what stands around it."""

    desk: Desk
    record: Memory
    checkpoint: Checkpoint
    people: LocalApprovals | None

    async def says(self, question: Question) -> Admission:
        """What the desk says, however long it takes."""
        decided = self.desk.decide(question)
        return decided if isinstance(decided, Admission) else await decided

    def policies(self, *policies: Manifest) -> None:
        """Other policies come into force."""
        self.checkpoint.bundle = bundle(*_policies(policies), connections=[self.desk.gate.connection])

    async def asked(self) -> Any:
        """The one question that is open, once there is one."""
        assert self.people is not None
        for _ in range(500):
            found = await self.people.listed()
            if found:
                return found[0].request
            await asyncio.sleep(0.01)
        raise AssertionError("nobody was asked")

    async def answers(self, verdict: str = "Approve", approver: str = "dana", reason: str = "") -> None:
        """A person decides on the question that is open."""
        assert self.people is not None
        request = await self.asked()
        await self.people.answer(request.metadata.namespace, request.metadata.name, Answer(approver, verdict, reason))  # type: ignore[arg-type]


def rule(name: str, expression: str = "true", action: str = "Allow", **more: object) -> Manifest:
    if action == "RequireApproval":
        more.setdefault("approval", {"groups": ["ops"], "wait": "5s"})
    return {"name": name, "action": action, "expression": expression, **more}


def policy(name: str, *rules: Manifest, **spec: object) -> Manifest:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"rules": list(rules), **spec}}


def connection(**spec: object) -> Connection:
    return Connection.model_validate({
        "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
        "spec": {
            "protocol": "SSH",
            "upstream": {"host": HOST, "port": 2022, "hostKeys": [KEY]},
            "credentials": {
                "sshCertificate": {"caSecretRef": {"name": "ca"}, "principals": [USER], "extensions": PERMITS}
            },
            "listener": {"port": 2222},
            "recording": "Full",
            "audit": "Relaxed",
            **spec,
        },
    })  # fmt: skip


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIbmqPrIRWnWyXHyIkr6ECh7JUbpyFVuX3jlb5aFpnXT"


@asynccontextmanager
async def office(*policies: Manifest, people: bool = True, **spec: object) -> AsyncIterator[Office]:
    """A desk with these policies; without any everything is allowed."""
    through = connection(**spec)
    record = Memory()
    found = _policies(policies or (policy("all", rule("everything")),))
    directory: Path = scratch(f"desk-{id(record)}")
    approvals = await LocalApprovals.open(directory / "approvals.db") if people else None
    checkpoint = Checkpoint(bundle(*found, connections=[through]), record, Counters(), approvals)
    client: ClientFacts = {"address": "192.0.2.7", "application": "OpenSSH"}
    gate = checkpoint.open(through, Identity(subject("planner", "agents"), "token"), client, NoTally(), {})
    try:
        yield Office(Desk(gate, USER), record, checkpoint, approvals)
    finally:
        gate.close("the test is over")
        if approvals is not None:
            await approvals.close()
        shutil.rmtree(directory)


def _policies(manifests: tuple[Manifest, ...]) -> list[GatewayPolicy]:
    return [GatewayPolicy.model_validate(each) for each in manifests]
