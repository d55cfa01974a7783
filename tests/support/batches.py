"""Batches made by hand, as the digest of a gateway's record makes them: for what no gateway would ever do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from zlib import crc32

import orjson
import zstandard

from ostiary_gateway.audit import chain as record_chain
from ostiary_gateway.audit import encoding, layout
from ostiary_gateway.audit.blocks import FIRST
from ostiary_policy.decision import Action, Decision, Matched, RuleRef
from ostiary_store.chain import GENESIS, chunk_link, digest, part_link
from ostiary_store.model import (
    MAX_TEXT,
    Batch,
    ChunkRow,
    EndedRow,
    PartRow,
    Place,
    RecordRef,
    RequestRow,
    SessionRow,
    Tally,
)

NOON = 1_795_435_200.0
"""2026-11-23, 12:00 UTC."""

READS = RuleRef("shop", "agents", "reads", "sha256:1")
DROPS = RuleRef("shop", "agents", "no-drop", "sha256:1")
WRITES = RuleRef("shop", "agents", "big-writes", "sha256:1")
HIDES = RuleRef("shop", "agents", "emails", "sha256:1")
TRIAL = RuleRef("shop", "trial", "no-select", "sha256:1")
ALLOW = Decision(Action.ALLOW, READS, "", matched=(Matched(READS, "Allow", True, 0),))
DENY = Decision(Action.DENY, DROPS, "Dropping is not allowed.", matched=(Matched(DROPS, "Deny", True, 0),))
ASK = Decision(Action.REQUIRE_APPROVAL, WRITES, "A person must agree.")
MASKED = Decision(
    Action.ALLOW, READS, "", matched=(Matched(READS, "Allow", True, 0), Matched(HIDES, "Mask", True, 0))
)
NOTED = Decision(Action.ALLOW, READS, "", matched=(Matched(READS, "Allow", True, 0), Matched(TRIAL, "Deny", False, 0)))


def record(name: str = "shop/app-db", instance: str = "app-db-0") -> RecordRef:
    """A record that nobody wrote; the same one for the same names."""
    uuid = hashlib.sha256(f"{name} {instance}".encode()).digest()[:16]
    return RecordRef(uuid, layout.FILE.pack(layout.MAGIC, uuid), name, instance, keys=("ed25519 k1 AAAA",))


def start(ref: RecordRef) -> Place:
    """Where every record begins."""
    return Place(FIRST, 0, record_chain.genesis(ref.header), 0)


@dataclass(slots=True, eq=False)
class _Session:
    row: SessionRow
    held: list[bytes] = field(default_factory=list)
    started: int = 0
    low: int = 0
    high: int = 0
    fresh: bool = True
    touched: bool = True
    running: dict[int, RequestRow] = field(default_factory=dict)


class Hand:
    """A gateway's record, written by hand. What happened since the last `batch` is in the next one."""

    def __init__(self, ref: RecordRef | None = None, at: float = NOON) -> None:
        self.ref = ref or record()
        self.at = at
        """The time of whatever happens without a time of its own; it goes on by a second each."""
        self.place = start(self.ref)
        self._sids = 0
        self._sessions: dict[str, _Session] = {}
        self._batch = Batch(self.ref, self.place, self.place)

    def open(
        self, name: str, *, connection: str = "shop/app", username: str = "planner", protocol: str = "Postgres",
        recording: str = "Full", at: float | None = None, retention: Mapping[str, object] | None = None,
    ) -> None:  # fmt: skip
        self._sids += 1
        subject: dict[str, object] = {"username": username, "groups": ["agents"]}
        client: dict[str, object] = {"address": "10.0.0.7", "application": "psql"}
        detail: dict[str, object] = {"database": "app"}
        opened = self._time(at)
        row = SessionRow(
            name, opened, None, "open", connection, protocol, username, recording, head=GENESIS, record=self.ref.uuid,
            sid=self._sids, subject=subject, client=client, detail=detail, retention=retention or {},
        )  # fmt: skip
        self._sessions[name] = _Session(row)
        fields: dict[str, object] = {
            "kind": "open", "at": opened, "session": name, "connection": connection, "protocol": protocol,
            "subject": subject, "client": client, "detail": detail, "recording": recording,
        }  # fmt: skip
        self._event(name, 0, layout.OPEN, encoding.encode(fields))

    def begin(
        self, name: str, number: int, text: str = "select 1", decision: Decision = ALLOW, *, at: float | None = None,
        detail: Mapping[str, object] | None = None,
    ) -> None:  # fmt: skip
        begun = self._time(at)
        session = self._sessions[name]
        self._count(name, requests=1, denied=decision.action == "Deny", asked=decision.action == "RequireApproval")
        ident = self._decide(session.row, decision, begun)
        raw = text.encode()
        body = layout.BEGUN.pack(layout.BEGIN, number, begun, ident, len(raw))[1:] + raw + encoding.encode(detail or {})
        self._event(name, number, layout.BEGIN, body)
        session.running[number] = self._request(session.row, number, begun, text, decision, ident)

    def end(
        self, name: str, number: int, outcome: str = "ok", *, rows: int = 1, response: bytes = b"",
        size: int | None = None, at: float | None = None, detail: Mapping[str, object] | None = None,
    ) -> None:  # fmt: skip
        """size: of the whole response, where parts of it came before."""
        ended = self._time(at)
        whole = len(response) if size is None else size
        told, tail = outcome.encode(), encoding.encode(detail or {})
        body = (
            layout.ENDED.pack(layout.END, number, ended, len(told), rows, whole, whole, whole, 0, len(tail))[1:]
            + told + tail + response
        )  # fmt: skip
        self._event(name, number, layout.END, body)
        self._count(name, errors=outcome == "error", rows=rows, bytes=whole)
        row = self._sessions[name].running.pop(number)
        if row in self._batch.requests:
            place = self._batch.requests.index(row)
            self._batch.requests[place] = replace(row, ended=ended, outcome=outcome, rows=rows, bytes=whole)
        else:
            self._batch.ended.append(EndedRow(name, number, row.begun, ended, outcome, rows, whole))

    def whole(
        self, name: str, number: int, text: str = "select 1", decision: Decision = ALLOW, *, outcome: str = "ok",
        rows: int = 1, response: bytes = b"", at: float | None = None, detail: Mapping[str, object] | None = None,
    ) -> None:  # fmt: skip
        """A request from begin to end in one event."""
        begun = self._time(at)
        ended = begun + 0.25
        session = self._sessions[name]
        ident = self._decide(session.row, decision, begun)
        told, raw, asked, tail = outcome.encode(), text.encode(), encoding.encode(detail or {}), b"{}"
        size = len(response)
        body = (
            layout.WHOLE.pack(
                layout.REQUEST, number, begun, ended, ident, len(told), rows, size, size, size, 0, len(raw),
                len(asked), len(tail),
            )[1:]
            + told + raw + asked + tail + response
        )  # fmt: skip
        self._event(name, number, layout.REQUEST, body)
        self._count(
            name, requests=1, denied=decision.action == "Deny", asked=decision.action == "RequireApproval",
            errors=outcome == "error", rows=rows, bytes=size,
        )  # fmt: skip
        row = self._request(session.row, number, begun, text, decision, ident)
        self._batch.requests[-1] = replace(row, ended=ended, outcome=outcome, rows=rows, bytes=size)

    def piece(self, name: str, number: int, offset: int, data: bytes) -> None:
        """A little of a response that lies among the events."""
        self._event(name, number, layout.PIECE, layout.PIECE_HEAD.pack(layout.PIECE, number, offset)[1:] + data)

    def part(self, name: str, number: int, offset: int, data: bytes) -> None:
        """A piece of a long response, a row of its own."""
        self._settle(name)
        session = self._sessions[name]
        row = session.row
        body = zstandard.ZstdCompressor().compress(data)
        hashed = digest(body)
        link = part_link(row.head, name, row.events, number, offset, len(data), hashed)
        self._batch.parts.append(
            PartRow(name, row.opened, row.events, number, offset, len(data), body, "", hashed, link)
        )
        session.row = replace(row, head=link, events=row.events + 1)
        session.touched = True

    def gap(self, name: str, events: int) -> None:
        self._event(name, 0, layout.GAP, encoding.encode({"kind": "gap", "at": self._time(None), "events": events}))

    def close(self, name: str, *, lost: bool = False, at: float | None = None) -> None:
        closed = self._time(at)
        kind, state = (layout.LOST, "lost") if lost else (layout.CLOSE, "closed")
        fields: dict[str, object] = {"kind": "lost" if lost else "close", "at": closed, "reason": "it was over"}
        self._event(name, 0, kind, encoding.encode(fields))
        session = self._sessions[name]
        session.row = replace(session.row, state=state, closed=closed)

    def batch(self) -> Batch:
        """What happened since the last one."""
        for name, session in self._sessions.items():
            self._settle(name)
            if session.touched:
                (self._batch.opened if session.fresh else self._batch.sessions).append(session.row)
            session.fresh = session.touched = False
        done = self._batch
        position, number, link, seal = self.place
        self.place = Place(position + 1000, number + 1, hashlib.sha256(link + b"x").digest(), seal)
        done.end = self.place
        self._batch = Batch(self.ref, self.place, self.place)
        return done

    def row(self, name: str) -> SessionRow:
        """As the store has to have it after the last batch."""
        return self._sessions[name].row

    # What all have in common

    def _time(self, at: float | None) -> float:
        if at is None:
            self.at += 1
            return self.at
        return at

    def _event(self, name: str, number: int, kind: int, body: bytes) -> None:
        session = self._sessions[name]
        whole = bytes((kind,)) + body
        if not session.held:
            session.started, session.low, session.high = session.row.events, 0, 0
        session.held.append(layout.EVENT.pack(len(whole), crc32(whole)) + whole)
        if number:
            session.low = min(session.low or number, number)
            session.high = max(session.high, number)
        session.row = replace(session.row, events=session.row.events + 1)
        session.touched = True

    def _settle(self, name: str) -> None:
        session = self._sessions[name]
        if not session.held:
            return
        raw = b"".join(session.held)
        body = zstandard.ZstdCompressor().compress(raw)
        row, hashed = session.row, digest(body)
        head = (session.started, len(session.held), self.at, self.at, session.low, session.high, len(raw))
        link = chunk_link(row.head, name, *head, hashed)
        self._batch.chunks.append(ChunkRow(name, row.opened, *head, body, hashed, link))
        session.row = replace(row, head=link)
        session.held = []

    def _count(self, name: str, **more: int) -> None:
        row = self._sessions[name].row
        changed = {key: getattr(row, key) + value for key, value in more.items()}
        self._sessions[name].row = replace(row, **changed)

    def _decide(self, row: SessionRow, decision: Decision, begun: float) -> bytes:
        body = encoding.encode(encoding.decision_fields(decision))
        ident = encoding.decision_id(body)
        self._batch.decisions[ident] = body
        hour = int(begun // 3600) * 3600
        policy, rule = _named(decision.rule)
        hits = [(str(decision.action), policy, rule, True)]
        hits += [
            (str(m.action), *_named(m.rule), m.enforced)
            for m in decision.matched
            if not m.enforced or m.action in ("Mask", "Audit")
        ]
        for hit in hits:
            self._tally(Tally(hour, row.connection, row.username, *hit, 1))
        return ident

    def _tally(self, new: Tally) -> None:
        tallies = self._batch.tallies
        for place, known in enumerate(tallies):
            if replace(known, requests=1) == new:
                tallies[place] = replace(known, requests=known.requests + 1)
                return
        tallies.append(new)

    def _request(
        self, row: SessionRow, number: int, begun: float, text: str, decision: Decision, ident: bytes
    ) -> RequestRow:
        policy, rule = _named(decision.rule)
        would = any(not m.enforced and m.action in ("Deny", "RequireApproval") for m in decision.matched)
        found = RequestRow(
            row.id, number, begun, None, row.connection, row.protocol, row.username,
            text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:MAX_TEXT], str(decision.action), policy, rule,
            ident.hex(), would, "",
        )  # fmt: skip
        self._batch.requests.append(found)
        return found


def _named(rule: RuleRef | None) -> tuple[str, str]:
    return ("", "") if rule is None else (f"{rule.namespace}/{rule.policy}", rule.rule)


def names(rows: Iterable[SessionRow]) -> list[str]:
    """The ids of sessions."""
    return [row.id for row in rows]


def decision_name(decision: Decision) -> str:
    """The id of a decision, in hex."""
    return encoding.decision_id(encoding.encode(encoding.decision_fields(decision))).hex()


def fields_of(body: bytes) -> Mapping[str, object]:
    """JSON that was stored."""
    found: Mapping[str, object] = orjson.loads(body)
    return found
