"""Checks a whole record: every link, every event, every seal and its signature, and that the index fits."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ostiary_gateway.audit import chain, index, layout, unpacking
from ostiary_gateway.audit.blocks import FIRST, Block, Log, log_file
from ostiary_gateway.audit.encoding import decision_id
from ostiary_gateway.audit.keys import read_public_keys, verifies
from ostiary_gateway.audit.reader import database


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
    """Events after the last seal: linked, not signed yet."""
    begins: int = 0
    """Number of the first block that is here; what was before was handed over to a store."""
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
class _Session:
    """A session while its events pass by."""

    name: str
    seq: int = 0
    whole: bool = True
    """Nothing of it is missing so far."""
    opened: unpacking.Fields = field(default_factory=dict)
    ended: tuple[str, object] = ("open", None)
    counts: tuple[int, ...] = (0,) * 6
    seen: list[int] = field(default_factory=lambda: [0, 0, 0])
    """requests, denied, asked, as its events say."""
    countable: bool = True
    """Every request of it has an event."""


def verify(path: Path, *, keys: Path | None = None, anchor: str = "") -> Report:
    """Check the record in `path` (its index, or the data directory). It may be live, or a copy.

    keys: file of public keys; by default the `.pub` beside the record, which is only as good as that directory.
    anchor: `NUMBER:HASH` of a seal that was noted before.
    FileNotFoundError or ValueError if there is nothing that can be checked.
    """
    path = database(path)
    keys = keys or path.with_suffix(".pub")
    if not path.exists() and not log_file(path).exists():
        raise FileNotFoundError("there is no record.")
    if not keys.is_file():
        raise FileNotFoundError(f"there are no public keys at {keys}. Copy the gateway's audit.pub there.")
    public = read_public_keys(keys)
    connection = index.connect_readonly(path)
    try:
        log = Log.open(log_file(path))
        try:
            # One snapshot: a gateway that writes meanwhile is not seen half.
            connection.execute("begin")
            return _Verification(connection, log, public, anchor).run()
        except sqlite3.DatabaseError as error:
            report = Report()
            report.add("", None, f"the index is damaged, SQLite says: {error}")
            return report
        finally:
            log.close()
    finally:
        connection.close()


class _Verification:
    def __init__(
        self, connection: sqlite3.Connection, log: Log, keys: Mapping[str, Ed25519PublicKey], anchor: str
    ) -> None:
        self._connection = connection
        self._log = log
        self._keys = keys
        self._anchor = anchor
        self._report = Report()
        self._place = index.indexed(connection)
        self._sessions: dict[int, _Session] = {}
        self._actions: dict[str, str] = {}
        """Of the decisions that passed by."""
        self._spans: dict[int, tuple[list[int], list[int]]] = {}
        self._seals = 0
        self._anchored = not anchor
        self._handed = 0
        """Up to which block seals say that the record was handed over."""
        self._number = 0
        self._link = b""

    def run(self) -> Report:
        # What the disk got back a moment ago may still be in the index.
        spans = "select sid, start, stop from span where stop > ? order by sid, start"
        for sid, start, stop in self._connection.execute(spans, (self._log.first(),)):
            starts, stops = self._spans.setdefault(sid, ([], []))
            starts.append(start)
            stops.append(stop)
        self._blocks()
        self._report.sessions = len(self._sessions)
        begins = self._report.begins
        if begins > self._handed:
            what = f"blocks {self._handed} to {begins - 1} were removed: no seal says that a store has them"
            self._report.add("", None, what)
        if not self._anchored and not (begins and self._before(self._anchor)):
            what = f"the noted seal {self._anchor} is not there: the record was cut off or replaced"
            self._report.add("", None, what)
        return self._report

    def _before(self, anchor: str) -> bool:
        """Whether the noted seal stood in what was handed over: the store has it."""
        number = anchor.partition(":")[0]
        return number.isdecimal() and 0 < int(number) <= self._seals - self._report.seals

    def _blocks(self) -> None:
        log, report = self._log, self._report
        end = log.size
        position = log.first()
        first = log.block(position) if position > FIRST else None
        if first is not None:
            report.begins = self._number = first.number
            self._link = first.previous
        else:
            self._link = log.link_before(FIRST)
        compared = False
        while True:
            if position >= self._place.position and not compared:
                compared = True
                self._compare()
            block = log.block(position, end)
            if block is None or (position >= self._place.position and not log.whole(block)):
                following = log.next_whole(position)
                if following is None:
                    break  # the end, or what a crash or a gateway at work has not written whole
                if block is None or following.position != block.end:
                    report.add("", None, f"the record is damaged from byte {position} to {following.position}")
                    position = following.position
                    continue
                # It has the right length, so it can be said what in it was changed.
            self._block(block)
            position = block.end
        if not compared:
            goes = self._place.position
            report.add("", None, f"the record ends at byte {position}, and its index goes to {goes}: it was cut off")
            self._compare()

    def _block(self, block: Block) -> None:
        log, add = self._log, self._report.add
        body, stored = log.body(block), log.link(block)
        good = chain.link(block.header, body) == stored
        if block.number != self._number:
            last = block.number - 1
            missing = f"block {last}" if last == self._number else f"blocks {self._number} to {last}"
            what = f"{missing} before it removed, or moved" if last >= self._number else "added, or moved"
            add("", None, f"block {block.number} stands where block {self._number} should be: {what}")
        elif block.previous != self._link:
            add("", None, f"block {block.number} does not follow the block before it: one of the two was changed")
        found = self._report.found
        try:
            if block.kind == layout.SEAL:
                self._seal(block, body)
            elif block.kind == layout.PART:
                self._part(block, body, good)
            else:
                self._events(block, log.decompress(block, body))
        except ValueError as error:
            add("", None, f"block {block.number}{self._holds(block)} was changed: {error}")
        if not good and self._report.found == found:
            # Whoever changed it knew the format; the chain still shows it.
            add("", None, f"block {block.number}{self._holds(block)} was changed: its content is not what was linked")
        # Go on from what is stored, so that one change is one finding.
        self._number, self._link = block.number + 1, stored

    def _holds(self, block: Block) -> str:
        """Whose events a block holds, as far as that can still be told."""
        names: list[str] = []
        try:
            if block.kind == layout.EVENTS:
                for section in unpacking.sections(self._log.decompress(block, self._log.body(block))):
                    last = section.seq + section.events - 1
                    names.append(f"events {section.seq} to {last} of {self._name(section.sid)}")
        except ValueError:
            for sid, (starts, stops) in self._spans.items():
                at = bisect_right(starts, block.position) - 1
                if at >= 0 and stops[at] > block.position:
                    names.append(f"perhaps of {self._name(sid)}")
        if not names:
            return ""
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return f" ({', '.join(names[:5])}{more})"

    def _name(self, sid: int) -> str:
        known = self._sessions.get(sid)
        if known is not None:
            return known.name
        row = None
        if sid < 1 << 63:  # a changed number may be any
            row = self._connection.execute("select id from session where sid = ?", (sid,)).fetchone()
        return f"session number {sid}" if row is None else str(row[0])

    def _seal(self, block: Block, body: bytes) -> None:
        add, report = self._report.add, self._report
        report.seals += 1
        self._seals += 1
        signature, told = body[: chain.SIGNATURE], body[chain.SIGNATURE :]
        try:
            seal = chain.parse_seal(told)
        except ValueError as error:
            add("", None, f"seal {self._seals} was changed: {error}")
            return
        name = f"seal {seal.number}"
        if report.begins and report.seals == 1:
            self._seals = seal.number
        if seal.number != self._seals:
            add("", None, f"seals are missing or in another order: {name} where {self._seals} should be")
            self._seals = seal.number
        key = self._keys.get(seal.key)
        if key is None:
            add("", None, f"{name} is signed with the key {seal.key}, which is not among the public keys given")
        elif not verifies(key, signature, seal.hash):
            add("", None, f"{name} was changed: its signature is wrong")
        elif seal.head != self._link or seal.block != block.number:
            add("", None, f"the chain up to block {block.number} was rewritten: it is not what {name} signed")
        else:
            report.unsealed = 0
            if seal.handed is not None:
                self._handed = max(self._handed, seal.handed.block)
        report.last_seal = f"{seal.number}:{seal.hash.hex()}"
        self._anchored = self._anchored or report.last_seal == self._anchor

    # Events

    def _known(self, block: Block, sid: int, seq: int) -> _Session:
        """The session, when its event `seq` comes; says what is missing before it."""
        known = self._sessions.get(sid)
        add = self._report.add
        if known is None:
            known = self._sessions[sid] = _Session(self._name(sid))
            if self._report.begins and seq:
                # It had begun before; how much of it was handed over, the links of the blocks say.
                known.seq, known.countable = seq, False
            elif block.position < self._place.position and known.name == f"session number {sid}":
                add(known.name, seq, "its session is missing in the index")
        if seq > known.seq:
            missing = f"event {known.seq}" if seq == known.seq + 1 else f"events {known.seq} to {seq - 1}"
            add(known.name, seq, f"{missing} before it removed, or moved")
            known.whole = False
        elif seq < known.seq:
            add(known.name, seq, f"it stands where event {known.seq} should be: added, or moved")
            known.whole = False
        elif known.ended[0] != "open":
            add(known.name, seq, "it was added after the session's end")
            known.whole = False
        if block.position < self._place.position:
            starts, stops = self._spans.get(sid, ([], []))
            at = bisect_right(starts, block.position) - 1
            if at < 0 or stops[at] < block.end:
                add(known.name, seq, "the index was changed: readers would not find this event")
        return known

    def _part(self, block: Block, body: bytes, good: bool) -> None:
        part = unpacking.part(body)
        known = self._known(block, part.sid, part.seq)
        known.seq = part.seq + 1
        self._report.events += 1
        self._report.unsealed += 1
        self._report.response_bytes += block.size
        if not good:
            self._report.add(known.name, part.seq, f"the response of request {part.number} was changed")

    def _events(self, block: Block, raw: bytes) -> None:
        report = self._report
        for section in unpacking.sections(raw):
            known = self._known(block, section.sid, section.seq)
            for found in unpacking.events(raw, section):
                report.events += 1
                report.unsealed += 1
                kind = layout.KINDS.get(found.kind, "?")
                if not found.good:
                    what = f"the {kind} event was changed: its content is not what was written"
                    report.add(known.name, found.seq, what)
                    known.whole = False
                    continue
                for read in unpacking.read(raw, found, known.name):
                    self._event(known, found, read)
            known.seq = section.seq + section.events
            known.counts = tuple(section[8:14])

    def _event(self, known: _Session, found: unpacking.Found, read: unpacking.Read) -> None:
        fields = read.fields
        kind = fields.get("kind")
        self._report.response_bytes += read.size
        if kind == "open":
            known.opened = fields
            known.name = str(fields.get("session"))
            known.countable = fields.get("recording") != "None"
        elif kind == "begin":
            name = str(fields["decision"])
            action = self._actions.get(name) or self._kept(name)
            if action is None and self._report.begins:
                known.countable = False
            elif action is None:
                self._report.add(known.name, found.seq, f"its decision {name} was removed")
            known.seen[0] += 1
            known.seen[1] += action == "Deny"
            known.seen[2] += action == "RequireApproval"
        elif kind == "decision":
            self._decision(known, found, fields)
        elif kind == "refused":
            known.seen[1] += 1
        elif kind == "gap":
            known.countable = False
        elif kind in ("close", "lost"):
            known.ended = ("closed" if kind == "close" else "lost"), fields.get("at")

    def _kept(self, name: str) -> str | None:
        """The action of a decision that was handed over: the index has it, and its id proves it."""
        if not self._report.begins:
            return None
        row = self._connection.execute("select body from decision where id = ?", (bytes.fromhex(name),)).fetchone()
        if row is None or decision_id(bytes(row[0])) != bytes.fromhex(name):
            return None
        action = self._actions[name] = str(orjson.loads(row[0]).get("action", ""))
        return action

    def _decision(self, known: _Session, found: unpacking.Found, fields: unpacking.Fields) -> None:
        told = fields["decision"]
        self._actions[str(fields["id"])] = str(told.get("action", "")) if isinstance(told, dict) else ""

    def _compare(self) -> None:
        """What lists show must be what the events say, as far as the index goes."""
        add = self._report.add
        rows = {
            row[0]: row[1:]
            for row in self._connection.execute(
                "select sid, id, opened, closed, state, connection, protocol, username, recording, requests, denied, "
                "asked, errors, rows, bytes from session"
            )
        }
        for sid, row in rows.items():
            known = self._sessions.get(sid)
            if known is None and self._report.begins and sid not in self._spans:
                continue  # all of it was handed over
            if known is None or not known.seq:
                add(str(row[0]), None, "all of its events were removed")
            else:
                self._row(known, row)
        for sid, known in self._sessions.items():
            if sid not in rows and known.name != f"session number {sid}" and known.opened:
                add(known.name, None, "it was removed from the index")
        for name, body in self._connection.execute("select id, body from decision"):
            if decision_id(bytes(body)) != name:
                add("", None, f"decision {bytes(name).hex()} was changed in the index")
            elif bytes(name).hex() not in self._actions and not self._report.begins:
                add("", None, f"decision {bytes(name).hex()} is in the index and not in the record")
        held = {bytes(name).hex() for (name,) in self._connection.execute("select id from decision")}
        for missing in sorted(self._actions.keys() - held):
            add("", None, f"decision {missing} was removed from the index")

    def _row(self, known: _Session, row: tuple[object, ...]) -> None:
        name, opened, closed, state, connection, protocol, username, recording, *counts = row
        first = known.opened
        subject = first.get("subject")
        columns: list[tuple[str, object, object]] = []
        if first:
            columns += [
                ("id", name, first.get("session")),
                ("opened", opened, first.get("at")),
                ("connection", connection, first.get("connection")),
                ("protocol", protocol, first.get("protocol")),
                ("username", username, subject.get("username", "") if isinstance(subject, dict) else ""),
                ("recording", recording, first.get("recording")),
            ]
        if known.whole:
            columns += [("state", state, known.ended[0]), ("closed", closed, known.ended[1])]
            columns += zip(_COUNTS, counts, known.counts, strict=True)
            if known.countable:
                columns += zip(_COUNTS, known.counts, known.seen, strict=False)
        for column, value, right in columns:
            if value != right:
                self._report.add(known.name, None, f"its {column} in the list was changed to {value!r}, from {right!r}")


_COUNTS = ("requests", "denied", "asked", "errors", "rows", "bytes")


def findings(report: Report) -> Iterator[str]:
    """The report in lines, for a person."""
    yield (
        f"{report.sessions} sessions, {report.events} events, {report.response_bytes} bytes of responses, "
        f"{report.seals} {'seal' if report.seals == 1 else 'seals'}; {report.unsealed} events not sealed yet"
    )
    if report.begins:
        yield f"begins at block {report.begins}; what was before was handed over to the store"
    for finding in report.findings:
        yield str(finding)
    if report.found > len(report.findings):
        yield f"… and {report.found - len(report.findings)} more"
    if report.last_seal:
        yield f"last seal {report.last_seal}"
    if report.ok:
        yield "The record is whole."
    else:
        count = "1 finding" if report.found == 1 else f"{report.found} findings"
        yield f"{count}: the record is not as it was written."
