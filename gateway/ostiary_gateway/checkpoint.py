# cython: annotation_typing=False
"""The one door: every request of every protocol is decided, recorded and ended here, and nowhere else."""

from __future__ import annotations

import datetime
import time
from collections.abc import Awaitable, Mapping
from typing import Final, Protocol

from ostiary_api.connection import Connection
from ostiary_gateway.approvals import words
from ostiary_gateway.approvals.request import Standing
from ostiary_gateway.approvals.store import Approvals
from ostiary_gateway.audit.event import LoginRefused, Recorder, SessionOpened, request_id
from ostiary_gateway.audit.intake import Record
from ostiary_gateway.counters import Counters, Direction
from ostiary_gateway.identity.proof import Identity
from ostiary_gateway.ids import new_id
from ostiary_policy.bundle import Bundle
from ostiary_policy.decision import Action, Decision, Needs
from ostiary_policy.facts import ClientFacts, ConnectionFacts, RequestFacts, SessionFacts
from ostiary_policy.policy_set import PolicySet, Varying
from ostiary_policy.schema import COSTLY

_WIDEST_FIRST: Final[tuple[Varying, ...]] = ("text", "request")
MAX_KEPT: Final = 512
"""Decisions that one session keeps for reuse."""
SHOWN_TEXT: Final = 4096
"""Characters of a running request that are shown to who watches."""


class Tally(Protocol):
    """What a session has done so far; the protocol keeps it."""

    @property
    def rows(self) -> int: ...

    @property
    def bytes(self) -> int: ...

    @property
    def written(self) -> int: ...


class Verdict:
    """A decision, and what leads to its record: `session` and the request's number in it; 0 if it was only asked.

    `standing`: of the approval that the decision requires. With a grant that was used for this request it may run.
    """

    __slots__ = ("decision", "number", "session", "standing")

    def __init__(
        self, decision: Decision, number: int = 0, session: str = "", standing: Standing | None = None
    ) -> None:
        self.decision = decision
        self.number = number
        self.session = session
        self.standing = standing

    @property
    def request(self) -> str:
        """The request's id; empty if it has none."""
        return request_id(self.session, self.number) if self.number else ""

    @property
    def allowed(self) -> bool:
        if self.decision.action is Action.REQUIRE_APPROVAL:
            return self.standing is not None and self.standing.state == "Consumed"
        return self.decision.action is Action.ALLOW


class Checkpoint:
    """One for each gateway process. `bundle` is what is in force; replacing it takes effect with the next request."""

    def __init__(
        self, bundle: Bundle, recorder: Recorder, counters: Counters, approvals: Approvals | None = None
    ) -> None:
        self.bundle = bundle
        self.approvals = approvals
        self.recorder = recorder
        self.counters = counters
        self.gates: dict[str, Gate] = {}
        """Sessions that are open, by their ids."""

    def refuse_login(self, connection: str, client: ClientFacts, reason: str) -> str:
        """Records that a client was not let in; returns the record's id."""
        record = new_id()
        self.recorder.login_refused(LoginRefused(record, time.time(), connection, client, reason))
        return record

    def open(
        self,
        connection: Connection,
        identity: Identity,
        client: ClientFacts,
        tally: Tally,
        detail: Mapping[str, object],
        *,
        session: str = "",
    ) -> Gate:
        """A client has logged in. `session`: the id that it was given before, if it was."""
        return Gate(self, connection, identity, client, tally, detail, session=session)


_now = time.time


class Gate:
    """The door for one session."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        connection: Connection,
        identity: Identity,
        client: ClientFacts,
        tally: Tally,
        detail: Mapping[str, object],
        *,
        session: str = "",
    ) -> None:
        spec = connection.spec
        self.id = session or new_id()
        self.identity = identity
        self.connection = connection
        self.requests = 0
        self.name = f"{connection.metadata.namespace}/{connection.metadata.name}"
        self.strict = spec.audit == "Strict"
        self.full = spec.recording == "Full"
        self.checkpoint = checkpoint
        self._client = client
        self._tally = tally
        self._opened = time.time()
        self._open = True
        self._kept: dict[tuple[bytes, str], Decision] = {}
        self._reuse: Varying | None = None
        self._reuse_of_reads: Varying | None = None
        self._revision = ""
        self._policies: PolicySet
        self._connection_facts: ConnectionFacts
        self._protocol = str(spec.protocol)
        self._allowed = (self.name, self._protocol, Action.ALLOW.value)
        self._counted = checkpoint.counters.requests
        self.waiter: Awaitable[None] | None = None
        self.running: dict[int, tuple[float, str]] = {}
        """Requests that were let through and have not ended: since when (seconds since the epoch), and their text."""
        self.refresh()
        checkpoint.counters.session_opened(self.name)
        self.record = checkpoint.recorder.session_opened(
            SessionOpened(
                self.id, self._opened, self.name, self._protocol, dict(identity.subject), dict(client), detail,
                spec.recording, spec.limits.max_recorded_bytes,
                {} if spec.retention is None else spec.retention.seconds,
            )
        )  # fmt: skip
        self._file = self.record if isinstance(self.record, Record) else None
        checkpoint.gates[self.id] = self

    def refresh(self) -> bool:
        """Takes up the bundle in force. False if it no longer has this Connection."""
        bundle = self.checkpoint.bundle
        if bundle.revision == self._revision:
            return True
        metadata = self.connection.metadata
        bound = bundle.connection(metadata.namespace, metadata.name)
        if bound is None:
            return False
        self._revision = bundle.revision
        self._policies = bound.for_subject(self.identity.subject, self._client)
        self._connection_facts = self._policies.connection
        policies = self._policies
        self._reuse = next((varying for varying in _WIDEST_FIRST if policies.reusable(varying)), None)
        self._reuse_of_reads = next(
            (varying for varying in _WIDEST_FIRST if policies.reusable(varying, fixed=COSTLY)), None
        )
        self._kept.clear()
        return True

    @property
    def policies(self) -> PolicySet:
        self.refresh()
        return self._policies

    @property
    def revision(self) -> str:
        return self._revision

    def decide(
        self,
        protocol_facts: Mapping[str, object],
        *,
        shape: bytes | None = None,
        text: str = "",
        final: bool = False,
        reads: bool = False,
    ) -> Decision | Needs:
        """What the policies say. `shape` is all of the facts that differs neither with a statement's literals nor from
        one request to the next (Doc.varies), `text` what differs with the literals. Where the policies read nothing
        else, the decision may be one that was made before for the same. `reads`: the request is of those whose costly
        facts are always the same, so that they do not stand against that."""
        policies = self.policies
        now = time.time()
        key: tuple[bytes, str] | None = None
        reuse = self._reuse_of_reads if reads else self._reuse
        if shape is not None and reuse is not None:
            key = (shape, text if reuse == "request" else "")
            kept = self._kept.get(key)
            if kept is not None and kept.valid_until > now:
                return kept
        started = time.perf_counter()
        outcome = policies.decide({"request": self._facts(now), **protocol_facts}, now, final=final)
        self.checkpoint.counters.decided(time.perf_counter() - started)
        if key is not None and isinstance(outcome, Decision):
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[key] = outcome
        return outcome

    def request_facts(self, now: float) -> RequestFacts:
        """The facts of `request` at this moment, seconds since the epoch."""
        return self._facts(now)

    def _facts(self, now: float) -> RequestFacts:
        tally = self._tally
        return RequestFacts(
            time=_timestamp(now),
            connection=self._connection_facts,
            subject=self.identity.subject,
            client=self._client,
            session=SessionFacts(
                id=self.id, startedAt=_timestamp(self._opened), requests=self.requests, rowsRead=tally.rows,
                bytesRead=tally.bytes, rowsWritten=tally.written,
            ),
        )  # fmt: skip

    def admit(self, text: str, detail: Mapping[str, object] | bytes, decision: Decision) -> Verdict:
        """`begin` for a request whose decision, Allow, was made before for another that it stands for.

        It may run only when `waiter`, if there is one, has ended. Whoever takes that sets it to None.
        """
        self.requests = number = self.requests + 1
        self._counted[self._allowed] += 1
        now = _now()
        self.running[number] = (now, text)
        record = self._file
        if record is not None:
            self.waiter = record.begin(number, now, text, detail, decision, self.strict)
        else:
            self.waiter = self.record.begin(number, now, text, detail, decision, self.strict)
        return Verdict(decision, number, self.id)

    def begin(
        self, text: str, detail: Mapping[str, object], decision: Decision, standing: Standing | None = None
    ) -> tuple[Verdict, Awaitable[None] | None]:
        """Records a request that was decided. An allowed one may run only when the awaitable (if any) has ended.
        `standing`: of the approval that the decision requires; Consumed if its grant was used for this.

        Raises RecordError, at once or from the awaitable, if a Strict record cannot be made.
        """
        self.requests += 1
        number = self.requests
        verdict = Verdict(decision, number, self.id, standing)
        if standing is not None:
            detail = {**detail, "approval": words.for_record(standing)}
        counters = self.checkpoint.counters
        counters.request(self.name, self._protocol, decision.action.value)
        if not verdict.allowed:
            rule = decision.rule
            counters.denied(*((f"{rule.namespace}/{rule.policy}", rule.rule) if rule is not None else ("", "")))
        now = time.time()
        waiter = self.record.begin(number, now, text, detail, decision, self.strict and verdict.allowed)
        if not verdict.allowed:
            self.record.end(number, now, "denied", {}, 0, 0)
            return verdict, None
        self.running[number] = (now, text)
        return verdict, waiter

    @property
    def reuse(self) -> Varying | None:
        """In what a request may differ from one whose decision stands for it; None: in nothing."""
        return self._reuse

    @property
    def reuse_of_reads(self) -> Varying | None:
        """The same among requests whose costly facts are always the same."""
        return self._reuse_of_reads

    def refuse(self, text: str, code: str, reason: str) -> Verdict:
        """Records a request that was refused before any policy was asked."""
        decision = Decision(Action.DENY, None, reason, revision=self._revision)
        return self.begin(text, {"refused": code}, decision)[0]

    def response(self, number: int, data: bytes | memoryview) -> None:
        """More of the response to the request of this number."""
        record = self._file
        if record is not None:
            record.response(number, data)
        else:
            self.record.response(number, data)

    def transferred(self, direction: Direction, count: int) -> None:
        """So many bytes went through."""
        self.checkpoint.counters.transferred(self.name, direction, count)

    def end(self, number: int, outcome: str, detail: Mapping[str, object] | bytes, rows: int, size: int) -> None:
        """A request has ended: ok, error, denied, skipped or lost. `size`: bytes of the response."""
        self.running.pop(number, None)
        record = self._file
        if record is not None:
            record.end(number, _now(), outcome, detail, rows, size)
        else:
            self.record.end(number, _now(), outcome, detail, rows, size)

    def close(self, reason: str) -> None:
        """The session is over. Once."""
        if self._open:
            self._open = False
            self.running.clear()
            self.checkpoint.gates.pop(self.id, None)
            self.checkpoint.counters.session_closed(self.name)
            self.record.closed(time.time(), reason, self.requests)

    def live(self) -> dict[str, object]:
        """The session as it is now, for who watches."""
        subject = self.identity.subject
        return {
            "session": self.id,
            "connection": self.name,
            "protocol": self._protocol,
            "username": subject["username"],
            "onBehalfOf": subject["onBehalfOf"],
            "client": dict(self._client),
            "opened": self._opened,
            "requests": self.requests,
            "running": [
                {"request": request_id(self.id, number), "since": since, "text": text[:SHOWN_TEXT]}
                for number, (since, text) in list(self.running.items())
            ],
        }

    @property
    def recorder(self) -> Recorder:
        return self.checkpoint.recorder

    @property
    def approvals(self) -> Approvals | None:
        return self.checkpoint.approvals

    @property
    def connection_now(self) -> Connection:
        """The Connection as the bundle in force has it: a grant is for that."""
        metadata = self.connection.metadata
        bound = self.checkpoint.bundle.connection(metadata.namespace, metadata.name)
        return self.connection if bound is None else bound.connection

    def waited(self, seconds: float) -> None:
        """The client was held so long for an approval."""
        self.checkpoint.counters.waited(seconds)


def _timestamp(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat().replace("+00:00", "Z")
