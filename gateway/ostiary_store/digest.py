"""Blocks of a gateway's record → what they add to the store. Pure: it keeps the open sessions of one record in mind.

Every block's link is computed anew and must name the one before. The events of a session are kept as they lay in the
record: all that one batch has of a session becomes one chunk, as long as no part of a long response lies between.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Final, NamedTuple

import orjson
import zstandard

from ostiary_gateway.audit import layout
from ostiary_gateway.audit.chain import genesis
from ostiary_gateway.audit.encoding import decision_id
from ostiary_gateway.audit.unpacking import Section, sections
from ostiary_store import gateway_seals
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

CHUNK: Final = 256 * 1024
"""Bytes of events, decompressed, after which a chunk ends."""

FIRST: Final = layout.FILE.size
"""Where the first block stands in the file."""

AT_ONCE: Final = 32 * 1024 * 1024
"""Bytes of blocks, decompressed, after which a batch ends."""

LATEST: Final = 253_402_300_800.0
"""The end of the year 9999; no gateway's clock goes there."""

_NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:~@+-]{0,254}")
"""A session's id: it stands in addresses, in names of files and in headers."""

_SECTIONS: Final = 100_000
"""Of a block; a gateway writes a block long before it has so many."""

_BLOCK: Final = layout.BLOCK.size
_MOST: Final = 2**63 - 1
"""Counters of a gateway go further than those of a database."""

_EVENT = layout.EVENT.unpack_from
_BEGUN = layout.BEGUN.unpack_from
_ENDED = layout.ENDED.unpack_from
_WHOLE = layout.WHOLE.unpack_from
_BEGUN_SIZE: Final = layout.BEGUN.size
_ENDED_SIZE: Final = layout.ENDED.size
_WHOLE_SIZE: Final = layout.WHOLE.size
_OUTCOMES: Final = {name: name.decode() for name in (b"ok", b"error", b"denied", b"skipped", b"lost")}

Hit = tuple[str, str, str, bool]
"""action, policy, rule, enforced."""


class Damaged(ValueError):
    """These blocks do not follow what the store has, or cannot be read."""


class Unknown(LookupError):
    """Requests name decisions that came before; make a Digest that has their verdicts."""

    def __init__(self, ids: frozenset[bytes]) -> None:
        super().__init__(f"{len(ids)} decisions are not known here")
        self.ids = ids


class Verdict(NamedTuple):
    """What a decision means for the rows of its requests, and what each of them counts for."""

    id: str
    action: str
    policy: str
    """`namespace/name`."""
    rule: str
    would_deny: bool
    hits: tuple[Hit, ...]


def verdict(ident: bytes, fields: Mapping[str, object]) -> Verdict:
    """Of a decision as audit.encoding.decision_fields made it. Whatever is missing is empty."""
    action = _text(fields.get("action"))
    policy, rule = _rule(fields.get("rule"))
    hits: list[Hit] = [(action, policy, rule, True)]
    would_deny = False
    matched = fields.get("matched")
    for one in matched if isinstance(matched, list) else ():
        if not isinstance(one, dict):
            continue
        what, enforced = _text(one.get("action")), one.get("enforced") is not False
        if not enforced:
            would_deny = would_deny or what in ("Deny", "RequireApproval")
        elif what not in ("Mask", "Audit"):
            continue
        hit = (what, *_rule(one), enforced)
        if hit not in hits:
            hits.append(hit)
    return Verdict(ident.hex(), action, policy, rule, would_deny, tuple(hits))


NOBODY: Final = Verdict("", "", "", "", False, ())
"""Of a request whose decision the record lost."""


def _rule(value: object) -> tuple[str, str]:
    if not isinstance(value, Mapping):
        return "", ""
    return f"{_text(value.get('namespace'))}/{_text(value.get('policy'))}", _text(value.get("rule"))


def _text(value: object) -> str:
    return clean(value) if isinstance(value, str) else ""


def clean(text: str) -> str:
    """As a database takes it."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in text else text


def request_text(body: bytes) -> str:
    """Of a begin's text, what a search row holds."""
    if len(body) > MAX_TEXT:
        body = body[: 4 * MAX_TEXT]
        text = body.decode("utf-8", "replace")[:MAX_TEXT]
    else:
        text = body.decode("utf-8", "replace")
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in text else text


Begun = tuple[float, str, Verdict]


class _Session:
    """An open session: its row, its running requests, and what the batch has of it so far."""

    __slots__ = (
        "counts", "events", "fresh", "head", "held", "high", "low", "new", "row", "running", "since", "size", "started",
        "touched", "until",
    )  # fmt: skip

    def __init__(self, row: SessionRow, running: dict[int, float], new: bool) -> None:
        self.row = row
        self.head = row.head or GENESIS
        self.events = row.events
        self.counts: tuple[int, ...] = (row.requests, row.denied, row.asked, row.errors, row.rows, row.bytes)
        self.running = running
        """Begun in an earlier batch."""
        self.fresh: dict[int, Begun] = {}
        """Begun in this one."""
        self.new = new
        self.touched = False
        self.rest()

    def rest(self) -> None:
        """Nothing is held for the next chunk."""
        self.held: list[bytes | memoryview] = []
        self.size = self.low = self.high = 0
        self.started = self.events
        self.since = self.until = 0.0

    def now(self) -> SessionRow:
        requests, denied, asked, errors, rows, size = self.counts
        return replace(
            self.row, requests=requests, denied=denied, asked=asked, errors=errors, rows=min(rows, _MOST),
            bytes=min(size, _MOST), events=self.events, head=self.head,
        )  # fmt: skip


class Digest:
    """One record, from where the store has it. If a batch that it made is not taken by the store, make a new one."""

    def __init__(
        self,
        record: RecordRef,
        place: Place,
        sessions: Iterable[SessionRow] = (),
        running: Iterable[tuple[str, int, float]] = (),
        verdicts: dict[bytes, Verdict] | None = None,
    ) -> None:
        self.record = record
        self.place = place if place.position else start(record)
        self._keys = gateway_seals.public_keys(record.keys)
        self._decompressor = zstandard.ZstdDecompressor()
        self._compressor = zstandard.ZstdCompressor(level=3)
        self._sessions = {row.sid: _Session(row, {}, new=False) for row in sessions}
        by_name = {session.row.id: session for session in self._sessions.values()}
        for name, number, begun in running:
            if name in by_name:
                by_name[name].running[number] = begun
        self.verdicts = {} if verdicts is None else verdicts
        """Of the decisions that came before, by id. Grows; whoever gives it may clear it between batches."""

    def announced(self, record: RecordRef) -> None:
        """The gateway says anew who it is; it may have more keys."""
        if record.keys != self.record.keys:
            self._keys = gateway_seals.public_keys(record.keys)
        self.record = record

    def take(self, data: bytes) -> Batch:
        """What the whole blocks at the beginning of `data` add; they stand at `place` in the record. After Damaged or
        Unknown this object is of no use any more."""
        try:
            blocks, end = self._blocks(data)
        except (struct.error, zstandard.ZstdError) as error:
            raise Damaged(f"a block of the record cannot be read: {error}") from error
        making = _Making(Batch(self.record, self.place, end), self._sessions, self.verdicts, self._compressor)
        try:
            for kind, codec, at, head, body in blocks:
                if kind == layout.EVENTS:
                    making.block(body, at)
                elif kind == layout.PART:
                    making.part(codec, head, body)
            batch = making.done()
        except Damaged:
            raise
        except (IndexError, KeyError, TypeError, AttributeError, ValueError, OverflowError, struct.error) as error:
            raise Damaged(f"a block of the record cannot be read: {error}") from error
        if making.missing:
            raise Unknown(frozenset(making.missing))
        self.place = end
        return batch

    def _blocks(self, data: bytes) -> tuple[list[tuple[int, int, float, bytes, bytes]], Place]:
        """Kind, codec, time, head of a part and body of each block; an EVENTS body is decompressed."""
        view = memoryview(data)
        position, number, link, seal = self.place
        found: list[tuple[int, int, float, bytes, bytes]] = []
        at = total = 0
        while len(data) - at >= _BLOCK and total < AT_ONCE:
            magic, kind, codec, zero, size, stored, told, when, previous = layout.BLOCK.unpack_from(data, at)
            if magic != layout.BLOCK_MAGIC or zero or size > layout.MAX_BODY or kind not in (1, 2, 3):
                raise Damaged(f"there is no block at byte {position} of the record")
            end = at + _BLOCK + stored
            if end + layout.LINK > len(data):
                break
            if told != number or previous != link:
                raise Damaged(f"block {told} at byte {position} does not follow block {number - 1}")
            link = sha256(view[at:end]).digest()
            if link != data[end : end + layout.LINK]:
                raise Damaged(f"block {number} at byte {position} is not what its link says")
            if not 0 <= when < LATEST:
                raise Damaged(f"block {number} at byte {position} has no time")
            body = data[at + _BLOCK : end]
            head = b""
            if kind == layout.EVENTS:
                body = self._raw(codec, size, body, number)
            elif kind == layout.PART:
                head, body = body[: layout.PART_HEAD.size], body[layout.PART_HEAD.size :]
                if codec == layout.ZSTD and zstandard.frame_content_size(body) not in (-1, size):
                    raise Damaged(f"block {number} at byte {position} claims another size than its frame")
                # The size goes with the head: it is not in it.
                head += size.to_bytes(8, "little")
            else:
                if wrong := gateway_seals.check(body, last=seal, block=number, head=previous, keys=self._keys):
                    raise Damaged(f"block {number} at byte {position}: {wrong}")
                seal += 1
            found.append((kind, codec, when, head, body))
            total += size
            at = end + layout.LINK
            position, number = self.place.position + at, number + 1
        return found, Place(position, number, link, seal)

    def _raw(self, codec: int, size: int, body: bytes, number: int) -> bytes:
        if codec == layout.ZSTD:
            try:
                if zstandard.frame_content_size(body) not in (-1, size):
                    raise Damaged(f"block {number} claims another size than its frame")
                body = self._decompressor.decompress(body, max_output_size=size)
            except zstandard.ZstdError as error:
                raise Damaged(f"block {number} cannot be decompressed: {error}") from error
        elif codec != layout.RAW:
            raise Damaged(f"block {number} has the codec {codec}, which is unknown")
        if len(body) != size:
            raise Damaged(f"block {number} has {len(body)} bytes instead of {size}")
        return body


def start(record: RecordRef) -> Place:
    """Of a record that nothing was taken in of."""
    return Place(FIRST, 0, genesis(record.header), 0)


class _Making:
    """One batch while its blocks pass by."""

    def __init__(
        self, batch: Batch, sessions: dict[int, _Session], verdicts: dict[bytes, Verdict],
        compressor: zstandard.ZstdCompressor,
    ) -> None:  # fmt: skip
        self.missing: set[bytes] = set()
        self._batch = batch
        self._sessions = sessions
        self._open = {session.row.id for session in sessions.values()}
        self._verdicts = verdicts
        self._compressor = compressor
        self._touched: list[tuple[int, _Session]] = []
        self._tallies: dict[tuple[str, str, bytes, int], int] = {}

    def block(self, raw: bytes, at: float) -> None:
        """An EVENTS block."""
        if len(raw) >= layout.COUNT.size and layout.COUNT.unpack_from(raw)[0] > _SECTIONS:
            raise Damaged(f"a block has more than {_SECTIONS} sections")
        for section in sections(raw):
            sid = section.sid
            session = self._sessions.get(sid)
            if session is None:
                row = self._opened(raw, section)
                if row.id in self._open:
                    # The store would refuse the whole batch, and could not say who is to blame.
                    raise Damaged(f"session {row.id} begins twice")
                self._open.add(row.id)
                session = self._sessions[sid] = _Session(row, {}, new=True)
            if section.seq != session.events:
                raise Damaged(f"session {session.row.id} goes on at event {section.seq} instead of {session.events}")
            if not session.touched:
                session.touched = True
                self._touched.append((sid, session))
            self._events(raw, section, session)
            self._hold(raw, section, session, at)

    def part(self, codec: int, head: bytes, body: bytes) -> None:
        """A PART block: it is a row as it stands."""
        sid, seq, number, offset = layout.PART_HEAD.unpack_from(head)
        size = int.from_bytes(head[layout.PART_HEAD.size :], "little")
        session = self._sessions.get(sid)
        if session is None or seq != session.events:
            raise Damaged(f"a part of a response belongs to event {seq} of session {sid}, which is not the next one")
        if not session.touched:
            session.touched = True
            self._touched.append((sid, session))
        self._settle(session)
        if codec == layout.RAW:
            if len(body) != size:
                raise Damaged(f"a part of a response has {len(body)} bytes instead of {size}")
            body = self._compressor.compress(body)
        elif codec != layout.ZSTD:
            raise Damaged(f"a part of a response has the codec {codec}, which is unknown")
        row, hashed = session.row, digest(body)
        number, offset = min(number, _MOST), min(offset, _MOST)
        session.head = part_link(session.head, row.id, seq, number, offset, size, hashed)
        part = PartRow(row.id, row.opened, seq, number, offset, size, body, "", hashed, session.head)
        self._batch.parts.append(part)
        session.events += 1
        session.started = session.events

    def done(self) -> Batch:
        """The batch, with what was still held."""
        batch = self._batch
        for sid, session in self._touched:
            self._settle(session)
            row = session.row
            for number, (begun, text, found) in session.fresh.items():
                batch.requests.append(
                    RequestRow(
                        row.id, number, begun, None, row.connection, row.protocol, row.username, text, found.action,
                        found.policy, found.rule, found.id, found.would_deny, "",
                    )
                )  # fmt: skip
                session.running[number] = begun
            session.fresh.clear()
            (batch.opened if session.new else batch.sessions).append(session.now())
            session.new = session.touched = False
            if row.state != "open":
                del self._sessions[sid]
        tallies: dict[tuple[int, str, str, Hit], int] = {}
        for (connection, username, ident, hour), count in self._tallies.items():
            for hit in self._verdicts.get(ident, NOBODY).hits:
                key = (hour * 3600, connection, username, hit)
                tallies[key] = tallies.get(key, 0) + count
        batch.tallies = [
            Tally(hour, connection, username, *hit, count)
            for (hour, connection, username, hit), count in tallies.items()
        ]
        return batch

    def _opened(self, raw: bytes, section: Section) -> SessionRow:
        start = section.start + layout.EVENT.size
        (size, _) = _EVENT(raw, section.start)
        if section.seq or raw[start] != layout.OPEN:
            raise Damaged(f"session number {section.sid} has events, but was never opened")
        fields = orjson.loads(raw[start + 1 : start + size])
        subject = fields.get("subject")
        subject = subject if isinstance(subject, dict) else {}
        retention, client, detail = (fields.get(name) for name in ("retention", "client", "detail"))
        name, opened = _text(fields["session"]), float(fields["at"])
        if not 0 <= opened < LATEST or not _NAME.fullmatch(name) or section.sid > _MOST:
            raise Damaged(f"session number {section.sid} has no time, or no id")
        connection = _text(fields.get("connection"))
        space, slash, _ = self._batch.record.gateway.partition("/")
        if slash and connection and not connection.startswith(f"{space}/"):
            # Else a gateway of one namespace could put words into the mouths of another's agents.
            raise Damaged(f"session {name} is one of {connection[:200]!r}, and the gateway is in the namespace {space}")
        return SessionRow(
            name, opened, None, "open", connection,
            _text(fields.get("protocol")), _text(subject.get("username")), _text(fields.get("recording")),
            record=self._batch.record.uuid, sid=section.sid, subject=subject,
            client=client if isinstance(client, dict) else {}, detail=detail if isinstance(detail, dict) else {},
            retention=retention if isinstance(retention, dict) else {},
        )  # fmt: skip

    def _events(self, raw: bytes, section: Section, session: _Session) -> None:
        """What the events of a section say, except for what is only kept."""
        row, verdicts, requests = session.row, self._verdicts, self._batch.requests
        name, connection, protocol, username = row.id, row.connection, row.protocol, row.username
        fresh = session.fresh
        at, end = section.start, section.start + section.size
        last, last_hour, count, seen = b"", 0, 0, 0
        while at < end:
            (size, _) = _EVENT(raw, at)
            at += 8
            stop = at + size
            if stop > end or not size:
                raise Damaged(f"an event of session {name} ends behind its section")
            seen += 1
            kind = raw[at]
            if kind == layout.REQUEST:
                (
                    _, number, begun, ended, ident, told, rows, sent, _, _, _, text_size, _, _,
                ) = _WHOLE(raw, at)  # fmt: skip
                found = verdicts.get(ident)
                if found is None:
                    self.missing.add(ident)
                    found = NOBODY
                at += _WHOLE_SIZE
                if not 0 <= ended < LATEST:
                    raise Damaged(f"a request of session {name} ends at no time")
                outcome = raw[at : at + told]
                at += told
                requests.append(
                    RequestRow(
                        name, number if number < _MOST else _MOST, begun, ended, connection, protocol, username,
                        request_text(raw[at : at + text_size]), found.action, found.policy, found.rule, found.id,
                        found.would_deny, _OUTCOMES.get(outcome) or _outcome(outcome),
                        rows if rows < _MOST else _MOST, sent if sent < _MOST else _MOST,
                    )
                )  # fmt: skip
            elif kind == layout.BEGIN:
                _, number, begun, ident, text_size = _BEGUN(raw, at)
                found = verdicts.get(ident)
                if found is None:
                    self.missing.add(ident)
                    found = NOBODY
                at += _BEGUN_SIZE
                number = number if number < _MOST else _MOST
                fresh[number] = (begun, request_text(raw[at : at + text_size]), found)
            elif kind == layout.END:
                _, number, ended, told, rows, sent, _, _, _, _ = _ENDED(raw, at)
                at += _ENDED_SIZE
                self._ended(session, min(number, _MOST), ended, raw[at : at + told], rows, sent)
                at = stop
                continue
            else:
                if kind == layout.DECISION:
                    self._decided(raw[at + 1 : stop])
                elif kind in (layout.CLOSE, layout.LOST):
                    self._closed(session, kind, raw[at + 1 : stop])
                at = stop
                continue
            at = stop
            if not 0 <= begun < LATEST:
                raise Damaged(f"a request of session {name} begins at no time")
            hour = int(begun // 3600)
            if ident == last and hour == last_hour:
                count += 1
                continue
            if count:
                self._count(connection, username, last, last_hour, count)
            last, last_hour, count = ident, hour, 1
        if count:
            self._count(connection, username, last, last_hour, count)
        if seen != section.events:
            raise Damaged(f"a section of session {name} has {seen} events instead of {section.events}")

    def _count(self, connection: str, username: str, ident: bytes, hour: int, count: int) -> None:
        key = (connection, username, ident, hour)
        self._tallies[key] = self._tallies.get(key, 0) + count

    def _ended(self, session: _Session, number: int, ended: float, told: bytes, rows: int, sent: int) -> None:
        if not 0 <= ended < LATEST:
            raise Damaged(f"a request of session {session.row.id} ends at no time")
        outcome = _OUTCOMES.get(told) or _outcome(told)
        rows, sent = min(rows, _MOST), min(sent, _MOST)
        begun = session.fresh.pop(number, None)
        row = session.row
        if begun is not None:
            at, text, found = begun
            self._batch.requests.append(
                RequestRow(
                    row.id, number, at, ended, row.connection, row.protocol, row.username, text, found.action,
                    found.policy, found.rule, found.id, found.would_deny, outcome, rows, sent,
                )
            )  # fmt: skip
            return
        earlier = session.running.pop(number, None)
        if earlier is not None:
            self._batch.ended.append(EndedRow(row.id, number, earlier, ended, outcome, rows, sent))

    def _decided(self, body: bytes) -> None:
        ident, body = body[:16], body[16:]
        if decision_id(body) != ident:
            raise Damaged(f"the decision {ident.hex()} is not the one that its id is of")
        self._batch.decisions[ident] = body
        fields = orjson.loads(body)
        self._verdicts[ident] = verdict(ident, fields) if isinstance(fields, dict) else NOBODY

    def _closed(self, session: _Session, kind: int, body: bytes) -> None:
        at = float(orjson.loads(body)["at"])
        if not 0 <= at < LATEST:
            raise Damaged(f"session {session.row.id} ends at no time")
        session.row = replace(session.row, state="closed" if kind == layout.CLOSE else "lost", closed=at)
        for number in [*session.fresh, *session.running]:
            self._ended(session, number, at, b"lost", 0, 0)

    def _hold(self, raw: bytes, section: Section, session: _Session, at: float) -> None:
        if not session.held:
            session.since = at
            session.started = session.events
        session.held.append(raw[section.start : section.start + section.size])
        session.size += section.size
        session.until = at
        if section.low and (not session.low or section.low < session.low):
            session.low = min(section.low, _MOST)
        session.high = max(session.high, min(section.high, _MOST))
        session.events += section.events
        session.counts = section[8:14]
        if session.size > CHUNK:
            self._settle(session)

    def _settle(self, session: _Session) -> None:
        """What is held becomes a chunk."""
        if not session.held:
            return
        body = self._compressor.compress(b"".join(session.held))
        row, hashed = session.row, digest(body)
        events = session.events - session.started
        session.head = chunk_link(
            session.head, row.id, session.started, events, session.since, session.until, session.low, session.high,
            session.size, hashed,
        )  # fmt: skip
        self._batch.chunks.append(
            ChunkRow(
                row.id, row.opened, session.started, events, session.since, session.until, session.low, session.high,
                session.size, body, hashed, session.head,
            )
        )  # fmt: skip
        session.rest()


def _outcome(told: bytes) -> str:
    return clean(told.decode("utf-8", "replace"))
