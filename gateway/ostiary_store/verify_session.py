"""One session of a store: its links, its bodies, its heads in seals, and what lists and searches say of it."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Final

import orjson
import zstandard

from ostiary_gateway.audit import layout
from ostiary_gateway.audit.unpacking import Fields
from ostiary_store import chain
from ostiary_store.digest import clean
from ostiary_store.model import ChunkRow, PartRow, RequestRow, SessionRow
from ostiary_store.sealed import row_digest
from ostiary_store.verify_ledger import Ledger, SealedHead
from ostiary_store.verify_requests import Requests, happened

MAX_CHUNK: Final = 512 << 20
"""Bytes of a chunk, decompressed; a larger one was not written by a store service."""

Finding = tuple[int | None, str]
"""seq, and what."""

BodyOf = Callable[[PartRow], Awaitable[bytes]]


class SessionCheck:
    """Feed it the rows of one session in order, then `finish`. `findings` has what is wrong."""

    def __init__(
        self,
        name: str,
        row: SessionRow | None,
        heads: list[SealedHead],
        requests: AsyncIterator[RequestRow],
        ledger: Ledger,
        *,
        quick: bool,
        counting: bool,
        body_of: BodyOf | None,
        decompressor: zstandard.ZstdDecompressor,
    ) -> None:
        self.name = name
        self.row = row
        self.findings: list[Finding] = []
        self._heads: dict[int, list[SealedHead]] = {}
        for head in heads:
            self._heads.setdefault(head.seq, []).append(head)
        self._sealed = heads[-1] if heads else None
        self._ledger = ledger
        self._quick = quick
        self._counting = counting
        self._body_of = body_of
        self._decompressor = decompressor
        self._requests = Requests(name, requests, lambda what: self._add(None, what))
        self._seq = 0
        self._link = chain.GENESIS
        self._rewritten = False
        self._whole = True
        """Every event so far could be read, none is missing."""
        self._open: Fields = {}
        self._ended: tuple[str, float | None] = ("open", None)
        self._countable = True
        self._counts = [0, 0, 0]
        """requests, denied, asked."""
        self._tallied: list[tuple[int, bytes]] = []
        self.events = 0
        self.requests = 0
        self.response_bytes = 0
        self.parts = 0
        self.elsewhere = 0
        """Parts in a bucket that is not looked at."""
        self.bodiless: list[int] = []
        """Requests, parts of whose responses have no body any more."""
        self.gap = False

    def _add(self, seq: int | None, what: str) -> None:
        self.findings.append((seq, what))

    # Rows

    async def take(self, row: ChunkRow | PartRow) -> None:
        """The next one by its number."""
        if isinstance(row, ChunkRow):
            count, what = row.events, f"events {row.seq} to {row.seq + row.events - 1}"
        else:
            count, what = 1, f"event {row.seq}, a part of the response of {_request(row)},"
        if row.seq > self._seq:
            missing = f"event {self._seq}" if row.seq == self._seq + 1 else f"events {self._seq} to {row.seq - 1}"
            self._add(self._seq, f"{missing} removed, or moved")
            self._whole = False
        elif row.seq < self._seq:
            self._add(row.seq, f"{what} where event {self._seq} should be: added, or moved from elsewhere")
            self._whole = False
        elif self._ended[0] != "open":
            self._add(row.seq, f"{what} added after the session's end")
        good = True
        if isinstance(row, ChunkRow):
            link = chain.chunk_link(
                self._link, self.name, row.seq, row.events, row.first_at, row.last_at, row.low, row.high, row.size,
                row.digest,
            )  # fmt: skip
        else:
            link = chain.part_link(self._link, self.name, row.seq, row.number, row.offset, row.size, row.digest)
        if link != row.link and row.seq == self._seq:
            self._add(row.seq, f"{what}: the row was changed, or it or the one before it is from elsewhere")
            good = False
        if not self._quick:
            await self._body(row, what, good=good)
        self.events += count
        # Go on from what is stored, so that one change is one finding.
        self._seq, self._link = row.seq + count, row.link
        self._look_at_seals()

    def _look_at_seals(self) -> None:
        for head in self._heads.pop(self._seq, []):
            if head.link != self._link and not self._rewritten:
                self._rewritten = True
                self._add(
                    None, f"what stands before event {self._seq} was rewritten: it is not what seal {head.seal} signed"
                )

    async def _body(self, row: ChunkRow | PartRow, what: str, *, good: bool) -> None:
        if isinstance(row, PartRow):
            await self._part(row)
            return
        if chain.digest(row.body) != row.digest:
            self._add(row.seq, f"{what} were changed: their content is not what was written")
            self._unread(row)
            return
        if not good:
            self._unread(row)
            return
        try:
            await self._chunk(row)
        except (ValueError, struct.error, zstandard.ZstdError, LookupError, TypeError, AttributeError) as error:
            self._add(row.seq, f"{what} cannot be read: {error}")
            self._unread(row)

    def _unread(self, row: ChunkRow) -> None:
        self._whole = False
        self._requests.unread(row.low, row.high)

    async def _part(self, row: PartRow) -> None:
        self.parts += 1
        body = row.body
        if body is None and row.key:
            if self._body_of is None:
                self.elsewhere += 1
                return
            try:
                body = await self._body_of(row)
            except LookupError:
                self._add(row.seq, f"a part of the response of {_request(row)} is missing in the bucket ({row.key})")
                return
        if body is None:
            self.bodiless.append(row.number)
        elif chain.digest(body) != row.digest:
            self._add(row.seq, f"the response of {_request(row)} was changed, from byte {row.offset} on")
        else:
            self.response_bytes += row.size

    async def _chunk(self, row: ChunkRow) -> None:
        if not 0 <= row.size <= MAX_CHUNK or zstandard.frame_content_size(row.body) not in (-1, row.size):
            raise ValueError(f"their size is not {row.size}")
        raw = self._decompressor.decompress(row.body, max_output_size=max(row.size, 1))
        if len(raw) != row.size:
            raise ValueError(f"they have {len(raw)} bytes instead of {row.size}")
        found = happened(raw)
        if len(found) != row.events:
            raise ValueError(f"there are {len(found)} of them instead of {row.events}")
        requests = self._requests
        for event in found:
            if event.begun is not None:
                verdict = self._ledger.verdict(event.begun.decision)
                if verdict is None:
                    ident = event.begun.decision.hex()
                    requests.found.add(f"the decision {ident} of {{}} was changed or removed", event.begun.number)
                else:
                    self._counts[1] += verdict.action == "Deny"
                    self._counts[2] += verdict.action == "RequireApproval"
                self._counts[0] += 1
                self._tallied.append((int(event.begun.begun // 3600) * 3600, event.begun.decision))
                await requests.begun(event.begun, verdict)
            if event.ended is not None:
                requests.ended(event.ended)
            if event.body:
                self._rare(event.kind, event.body)
        self._count()

    def _count(self) -> None:
        for hour, ident in self._tallied:
            verdict = self._ledger.verdict(ident)
            if verdict is not None and self._counting:
                self._ledger.count(hour, self._requests.connection, self._requests.username, verdict.hits)
        self._tallied.clear()

    def _rare(self, kind: int, body: bytes) -> None:
        if kind == layout.OPEN:
            self._open = fields = orjson.loads(body)
            requests = self._requests
            requests.connection, requests.protocol = _text(fields, "connection"), _text(fields, "protocol")
            subject = fields.get("subject")
            requests.username = _text(subject, "username") if isinstance(subject, dict) else ""
            requests.opened = True
            self._countable = self._countable and fields.get("recording") != "None"
        elif kind in (layout.CLOSE, layout.LOST):
            at = float(orjson.loads(body)["at"])
            self._ended = ("closed" if kind == layout.CLOSE else "lost"), at
            self._requests.closed(at)
        elif kind == layout.REFUSED:
            self._counts[1] += 1
        elif kind == layout.GAP:
            self._countable, self.gap = False, True

    # The whole

    async def finish(self) -> None:
        """When the last row has come."""
        for seq in sorted(self._heads):
            head = self._heads[seq][0]
            if seq > self._seq:
                self._add(self._seq, f"its newest rows were removed: seal {head.seal} has events up to {seq - 1}")
                self._whole = False
                break
            if not self._rewritten:
                self._rewritten = True
                self._add(None, f"its rows were written anew: seal {head.seal} has one that ends with event {seq - 1}")
        self._heads.clear()
        row = self.row
        if not self._quick:
            await self._requests.finish()
            self.requests = self._requests.seen
        if row is None:
            if self.events:
                self._add(None, "it was removed from the list of sessions")
        else:
            self._compare(row)

    def _compare(self, row: SessionRow) -> None:
        found: set[str] = set()
        for column, value, right in self._columns(row):
            if value != right and column not in found:
                found.add(column)
                shown, wanted = _short(value), _short(right)
                self._add(None, f"its {column} in the list was changed to {shown}, from {wanted}")
        sealed = self._sealed
        if sealed is None or found:
            return
        if sealed.seq == row.events and sealed.link == row.head and sealed.row != row_digest(row):
            self._add(None, f"its row in the list was changed: it is not what seal {sealed.seal} signed")

    def _columns(self, row: SessionRow) -> Iterator[tuple[str, object, object]]:
        if self._whole:
            yield "events", row.events, self._seq
            yield "head", row.head, self._link if self._seq else row.head
        sealed = self._sealed
        if sealed is not None:
            yield "opened", row.opened, sealed.opened
            yield "record", row.record.hex(), sealed.record
            yield "sid", row.sid, sealed.sid
            if sealed.seq == row.events:
                yield "closed", row.closed, sealed.closed
        first = self._open
        if first:
            subject = first.get("subject")
            yield "id", row.id, _text(first, "session")
            yield "opened", row.opened, first.get("at")
            yield "connection", row.connection, self._requests.connection
            yield "protocol", row.protocol, self._requests.protocol
            yield "username", row.username, self._requests.username
            yield "recording", row.recording, _text(first, "recording")
            for name, held in (("client", row.client), ("detail", row.detail), ("retention", row.retention)):
                told = first.get(name)
                yield name, _plain(held), _plain(told if isinstance(told, dict) else {})
            yield "subject", _plain(row.subject), _plain(subject if isinstance(subject, dict) else {})
        if self._whole and not self._quick:
            yield "state", row.state, self._ended[0]
            yield "closed", row.closed, self._ended[1]
            if self._countable:
                yield from zip(
                    ("requests", "denied", "asked"), (row.requests, row.denied, row.asked), self._counts, strict=True
                )


def _request(row: PartRow) -> str:
    return f"request {row.number}" if row.number else "no request"


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    return clean(value) if isinstance(value, str) else ""


def _plain(value: object) -> object:
    """As a database gives JSON back: without U+0000."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _short(value: object) -> str:
    shown = value.hex() if isinstance(value, bytes) else repr(value)
    return shown if len(shown) <= 120 else f"{shown[:117]}…"
