"""Checks a whole record: every link, every recorded response, every seal and its signature."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ostiary_gateway.audit import chain, schema
from ostiary_gateway.audit.encoding import decision_id
from ostiary_gateway.audit.keys import read_public_keys, verifies
from ostiary_gateway.audit.reader import Packs, database


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was recorded. `seq` is None where it concerns the session as a whole."""

    session: str
    seq: int | None
    what: str

    def __str__(self) -> str:
        place = self.session or "the record"
        return f"{place}: {self.what}" if self.seq is None else f"{place}, event {self.seq}: {self.what}"


@dataclass(slots=True)
class Report:
    """What was checked and what was found. `findings` holds the first of them; `found` counts all."""

    sessions: int = 0
    events: int = 0
    seals: int = 0
    response_bytes: int = 0
    unsealed: int = 0
    """Events after the last seal of their session: linked, not signed yet."""
    last_seal: str = ""
    """`NUMBER:HASH`. Kept elsewhere and given as `anchor` later, it shows if the end of the record was cut off."""
    found: int = 0
    findings: list[Finding] = field(default_factory=list)
    limit: int = 1000

    @property
    def ok(self) -> bool:
        return self.found == 0

    @property
    def exit_status(self) -> int:
        """For a command: 0 if all is as recorded, 1 if not."""
        return 0 if self.ok else 1

    def add(self, session: str, seq: int | None, what: str) -> None:
        self.found += 1
        if len(self.findings) < self.limit:
            self.findings.append(Finding(session, seq, what))


@dataclass(slots=True)
class _Chain:
    """A session while its events pass by."""

    id: str
    seq: int = 0
    head: bytes = b""
    known: bool = True
    sealed: int = -1
    wanted: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    """Links that seals name, by seq, with the seal's number."""
    opened: dict[str, object] = field(default_factory=dict)
    """The fields of its first event, until they are compared with its row."""
    last: tuple[str, object] = ("", None)
    """Kind and time of its last event."""
    counts: list[int] = field(default_factory=lambda: [0, 0, 0])
    """Requests, denied, asked."""
    countable: bool = True
    """Every request is an event: none was dropped, and the Connection records them."""
    whole: bool = True
    """No event is missing or out of place; if one is, what follows from it is no finding of its own."""


def verify(path: Path, *, keys: Path | None = None, anchor: str = "") -> Report:
    """Check the record in `path` (the file, or the data directory). It may be live, or a copy.

    keys: file of public keys; by default the `.pub` beside the record, which is only as good as that directory.
    anchor: `NUMBER:HASH` of a seal that was noted before.
    FileNotFoundError or ValueError if there is nothing that can be checked.
    """
    path = database(path)
    keys = keys or path.with_suffix(".pub")
    if not keys.is_file():
        raise FileNotFoundError(f"there are no public keys at {keys}. Copy the gateway's audit.pub there.")
    connection = schema.connect_readonly(path)
    try:
        # One snapshot: a gateway that writes meanwhile is not seen half.
        connection.execute("begin")
        return _Verification(connection, read_public_keys(keys), anchor).run()
    except sqlite3.DatabaseError as error:
        report = Report()
        report.add("", None, f"the file is damaged, SQLite says: {error}")
        return report
    finally:
        connection.close()


class _Verification:
    def __init__(self, connection: sqlite3.Connection, keys: Mapping[str, Ed25519PublicKey], anchor: str) -> None:
        self._connection = connection
        self._keys = keys
        self._anchor = anchor
        self._report = Report()
        self._packs = Packs(connection)
        self._chains: dict[int, _Chain] = {}
        self._decisions: set[str] = set()
        self._actions: dict[str, str] = {}

    def run(self) -> Report:
        self._sessions()
        self._seals()
        self._decision_bodies()
        self._events()
        self._heads()
        self._place()
        return self._report

    def _sessions(self) -> None:
        for sid, name in self._connection.execute("select sid, id from session"):
            self._chains[sid] = _Chain(str(name), head=chain.genesis(str(name)))
        self._report.sessions = len(self._chains)

    def _seals(self) -> None:
        previous, number = chain.FIRST_SEAL, 0
        anchored = not self._anchor
        add = self._report.add
        for stored, body, signature in self._connection.execute("select number, body, signature from seal order by 1"):
            self._report.seals += 1
            number += 1
            name = f"seal {stored}"
            try:
                seal = chain.parse_seal(body)
            except ValueError as error:
                add("", None, f"{name} was changed: {error}")
                previous, number = chain.seal_hash(bytes(body)), stored
                continue
            if stored != number or seal.number != stored:
                add("", None, f"seals are missing or in another order: seal {stored} where {number} should be")
                number = stored
            elif seal.previous != previous:
                add("", None, f"{name} does not follow the seal before it: one of the two was changed")
            key = self._keys.get(seal.key)
            if key is None:
                add("", None, f"{name} is signed with the key {seal.key}, which is not among the public keys given")
            elif not verifies(key, bytes(signature), seal.hash):
                add("", None, f"{name} was changed: its signature is wrong")
            else:
                self._take_heads(seal)
            previous = seal.hash
            if f"{stored}:{seal.hash.hex()}" == self._anchor:
                anchored = True
        if not anchored:
            add("", None, f"the noted seal {self._anchor} is not there: the record was cut off or replaced")
        if number:
            self._report.last_seal = f"{number}:{previous.hex()}"

    def _take_heads(self, seal: chain.Seal) -> None:
        for head in seal.heads:
            known = self._chains.get(head.sid)
            if known is None:
                self._report.add(head.session, None, f"the session was removed; seal {seal.number} names it")
                self._chains[head.sid] = _Chain(head.session, head=chain.genesis(head.session), known=False)
                continue
            if not known.known:
                continue
            if known.id != head.session:
                self._report.add(
                    head.session, None, f"its id was changed to {known.id!r}; seal {seal.number} names the right one"
                )
                known.id, known.head = head.session, chain.genesis(head.session)
            known.wanted[head.seq] = head.hash, seal.number
            known.sealed = max(known.sealed, head.seq)

    def _decision_bodies(self) -> None:
        for name, body in self._connection.execute("select id, body from decision"):
            if decision_id(bytes(body)) != name:
                self._report.add("", None, f"decision {name} was changed")
            else:
                self._actions[name] = str(orjson.loads(body)["action"])
            self._decisions.add(name)

    def _events(self) -> None:
        for row in self._connection.execute(
            "select sid, seq, kind, body, hash, digest, pack, start, size from event order by id"
        ):
            self._event(row)

    def _event(self, row: tuple[object, ...]) -> None:
        sid, seq, kind, body, link, digest, pack, start, size = row
        self._report.events += 1
        if not (
            isinstance(sid, int)
            and isinstance(seq, int)
            and isinstance(kind, str)
            and isinstance(body, bytes)
            and isinstance(link, bytes)
            and (digest is None or (isinstance(digest, bytes) and len(digest) == 32))
        ):
            self._report.add(f"session number {sid}", None, f"event {seq!r} was changed: its row is damaged")
            return
        known = self._chains.get(sid)
        if known is None:
            self._report.add(f"session number {sid}", seq, "its session was removed")
            self._chains[sid] = _Chain(f"session number {sid}", known=False)
            return
        if not known.known:
            return
        add = self._report.add
        if seq > known.seq:
            missing = f"event {known.seq}" if seq == known.seq + 1 else f"events {known.seq} to {seq - 1}"
            add(known.id, seq, f"{missing} before it removed, or moved")
        elif seq < known.seq:
            add(known.id, seq, f"it stands where event {known.seq} should be: added, or moved")
        elif known.last[0] in ("close", "lost"):
            known.whole = False
            add(known.id, seq, "it was added after the session's end")
        known.whole = known.whole and seq == known.seq
        if chain.link(known.head, body, digest or chain.NO_DIGEST) != link and seq == known.seq:
            add(known.id, seq, f"the {kind} event was changed: its content is not what was linked")
        whole = self._content(known, seq, kind, body)
        if digest is not None or pack is not None:
            self._response(known.id, seq, whole, digest, pack, start, size)
        wanted = known.wanted.pop(seq, None)
        if wanted is not None and wanted[0] != link:
            add(known.id, seq, f"the chain up to here was rewritten: it is not what seal {wanted[1]} signed")
        # Go on from what is stored, so that one change is one finding.
        known.seq, known.head = seq + 1, link

    def _content(self, known: _Chain, seq: int, kind: str, body: bytes) -> bool:
        """Compare what the event says with the rest of the record. True if it has a pack of its own."""
        try:
            fields = orjson.loads(body)
            recorded = fields["kind"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self._report.add(known.id, seq, "it was changed: its content cannot be read")
            return False
        if recorded != kind:
            self._report.add(known.id, seq, f"its kind was changed to {kind}; recorded was {recorded}")
        known.last = recorded, fields.get("at")
        if recorded == "open":
            known.opened = fields
            known.countable = fields.get("recording") != "None"
        elif recorded == "begin":
            name = fields.get("decision")
            if name not in self._decisions:
                self._report.add(known.id, seq, f"its decision {name} was removed")
            action = self._actions.get(name, "")
            known.counts[0] += 1
            known.counts[1] += action == "Deny"
            known.counts[2] += action == "RequireApproval"
        elif recorded == "refused":
            known.counts[1] += 1
        elif recorded == "gap":
            known.countable = False
        return recorded == "frame" and fields.get("packed") is False

    def _response(
        self,
        session: str,
        seq: int,
        whole: bool,
        digest: bytes | None,
        pack: object,
        start: object,
        size: object,
    ) -> None:
        if digest is None or not (isinstance(pack, int) and isinstance(start, int) and isinstance(size, int)):
            self._report.add(session, seq, "the place of its response was changed")
            return
        self._report.response_bytes += size
        try:
            stored, raw = self._packs.stored(pack)
        except LookupError:
            self._report.add(session, seq, "its response was removed")
            return
        except ValueError as error:
            self._report.add(session, seq, f"its response was changed: {error}")
            return
        if whole and (start != 0 or size != len(raw)):
            self._report.add(session, seq, "the place of its response was changed")
        elif hashlib.sha256(stored if whole else raw[start : start + size]).digest() != digest:
            self._report.add(session, seq, "its response was changed")

    def _heads(self) -> None:
        for known in self._chains.values():
            if not known.known:
                continue
            for seq, (_, number) in sorted(known.wanted.items()):
                if seq >= known.seq:
                    known.whole = False
                    self._report.add(
                        known.id, known.seq, f"events from here to {seq} were removed; seal {number} names them"
                    )
                    break
            if known.seq == 0:
                self._report.add(known.id, None, "all of its events were removed")
            self._report.unsealed += max(0, known.seq - 1 - known.sealed)
        for row in self._connection.execute(
            "select sid, opened, closed, state, connection, protocol, username, recording, requests, denied, asked "
            "from session"
        ):
            known = self._chains[row[0]]
            if known.known:
                self._row(known, row)

    def _row(self, known: _Chain, row: tuple[object, ...]) -> None:
        """What lists show must be what the events say."""
        _, opened, closed, state, connection, protocol, username, recording, *counts = row
        first = known.opened
        subject = first.get("subject")
        kind, at = known.last
        ended = {"close": "closed", "lost": "lost"}.get(kind, "open")
        columns: list[tuple[str, object, object]] = []
        if first:
            columns += [
                ("opened", opened, first.get("at")),
                ("connection", connection, first.get("connection")),
                ("protocol", protocol, first.get("protocol")),
                ("username", username, subject.get("username", "") if isinstance(subject, dict) else ""),
                ("recording", recording, first.get("recording")),
            ]
        if known.whole:
            columns.append(("state", state, ended))
        if known.whole and ended != "open":
            columns.append(("closed", closed, at))
            if known.countable:
                columns += zip(("requests", "denied", "asked"), counts, known.counts, strict=True)
        for column, value, right in columns:
            if value != right:
                self._report.add(known.id, None, f"its {column} in the list was changed to {value!r}, from {right!r}")

    def _place(self) -> None:
        """An event that `place` does not find is an event that no reader sees."""
        (hidden,) = self._connection.execute(
            "select count(*) from event e where id <= (select event from indexed) and not exists "
            "(select 1 from place p where p.sid = e.sid and p.seq = e.seq and p.event = e.id)"
        ).fetchone()
        (extra,) = self._connection.execute(
            "select count(*) from place p where not exists "
            "(select 1 from event e where e.id = p.event and e.sid = p.sid and e.seq = p.seq)"
        ).fetchone()
        if hidden or (extra and self._report.ok):
            self._report.add("", None, f"the index of events was changed: {hidden} hidden, {extra} that lead nowhere")


def findings(report: Report) -> Iterator[str]:
    """The report in lines, for a person."""
    yield (
        f"{report.sessions} sessions, {report.events} events, {report.response_bytes} bytes of responses, "
        f"{report.seals} seals; {report.unsealed} events not sealed yet"
    )
    for finding in report.findings:
        yield str(finding)
    if report.found > len(report.findings):
        yield f"… and {report.found - len(report.findings)} more"
    if report.last_seal:
        yield f"last seal {report.last_seal}"
    yield "The record is whole." if report.ok else f"{report.found} findings: the record is not as it was written."
