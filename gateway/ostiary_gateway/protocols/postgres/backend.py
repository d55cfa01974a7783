"""What the server sends: replies are matched with what they answer, masked, counted, recorded, and passed on. No I/O.

Chunks pass whole wherever nothing in them needs touching: `to_client` then holds the very buffer that came.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from . import wire
from .state import CHANGES, ENDS_CYCLE, Awaited, Denial, Kind, Running, SessionState, result_formats, with_formats
from .wire import UINT32, FatalError, ProtocolViolation

if TYPE_CHECKING:
    from .masks import NoticeMask

MAX_HELD: Final = 16 * 1024 * 1024
"""Bytes of one server message that may be held back because it must be seen whole (masked rows, errors)."""

STREAMED: Final = 65_536
"""Bytes; an incomplete row at least so large is passed on as it comes. A smaller one waits for its end, so that an
error can still be told in its place if the server breaks off."""

_DATA_ROW: Final = ord("D")
_COPY_DATA: Final = ord("d")
_DROP: Final = b""

_Handler = Callable[[bytes, int, int], bytes | None]
"""(chunk, start of the body, end of the body) → None to pass the message on, b"" to drop it, or what replaces it."""


class Listener(Protocol):
    """What the relay wants to know of the server's messages."""

    def response(self, request: str, data: bytes | memoryview) -> None:
        """More of the response to a request, as the client sees it."""

    def ended(self, running: Running, outcome: str) -> None:
        """A request has ended: ok, error, or skipped (it was behind an error in its pipeline, and did not run)."""

    def parameter(self, name: str, value: str) -> None:
        """ParameterStatus."""

    def defined(self) -> None:
        """A transaction with DDL has ended: what was known of the catalog may be wrong for everybody."""


class Backend:
    """Turns the server's messages into the client's. `notices` masks what is not a row; None if nothing is masked."""

    def __init__(self, state: SessionState, listener: Listener, *, record: bool) -> None:
        self.state = state
        self.to_client: list[bytes | memoryview] = []
        self.notices: NoticeMask | None = None
        self.fatal = False
        """True once the server has sent a FATAL error: it closes the connection itself."""
        self._listener = listener
        self._record = record
        self._held = bytearray()
        self._need = 0
        self._passing = 0
        self._passing_for: Running | None = None
        self._finished: list[tuple[Running, str]] = []
        self._handlers: dict[int, _Handler] = {
            ord("T"): self._row_description, ord("C"): self._command_complete, ord("I"): self._command_complete,
            ord("s"): self._suspended, ord("1"): self._parsed, ord("2"): self._bound, ord("3"): self._closed,
            ord("t"): self._parameter_description, ord("n"): self._no_data, ord("E"): self._error,
            ord("Z"): self._ready, ord("N"): self._notice, ord("A"): self._notification, ord("S"): self._parameter,
            ord("G"): self._copy_in, ord("H"): self._copy_out, ord("c"): self._copy_done,
        }  # fmt: skip

    @property
    def in_a_message(self) -> bool:
        """True if the client has a part of a message: what else is said would be taken for the rest of it."""
        return self._passing > 0

    def feed(self, data: bytes) -> None:
        """Takes any chunk of the server's stream. Raises ProtocolViolation or FatalError; what went before stands."""
        start = self._pass_on(data, 0) if self._passing else 0
        while self._need and start < len(data):
            start = self._complete(data, start)
            if self._passing:
                # The header that was not whole is that of a row which streams: what follows is the row.
                start = self._pass_on(data, start)
        if start < len(data):
            self._messages(data, start)

    def _pass_on(self, data: bytes, start: int) -> int:
        """More of the row that is passed on as it comes. Returns where it ends in this chunk."""
        end = min(start + self._passing, len(data))
        self._passing -= end - start
        piece = data if end - start == len(data) else data[start:end]
        self._emit(piece)
        self._note(self._passing_for, piece)
        return end

    def _complete(self, data: bytes, start: int) -> int:
        """Adds to the incomplete message what it lacks, and no more; handles it once it is whole."""
        end = start + self._need - len(self._held)
        self._held += data[start:end]
        if len(self._held) == self._need:
            message = bytes(self._held)
            self._held, self._need = bytearray(), 0
            self._messages(message, 0)
        return min(end, len(data))

    def _messages(self, data: bytes, start: int) -> None:
        view = memoryview(data)
        size, position, sent, noted = len(data), start, start, start
        awaited, handlers = self.state.awaited, self._handlers
        owner = awaited[0].running if awaited else None
        while position + 5 <= size:
            kind = data[position]
            length: int = UINT32.unpack_from(data, position + 1)[0]
            if not 4 <= length <= wire.MAX_MESSAGE:
                raise ProtocolViolation(f"the server sent a message {chr(kind)!r} of {length} bytes")
            end = position + 1 + length
            if kind in _ROWS:
                head = self._rows_expected(kind)
                if owner is None or (owner.mask is not None and owner.mask.active):
                    if end > size:
                        break
                    self._flush(view, sent, position, owner, noted)
                    position = self._touched_rows(data, position, kind, head)
                    sent = noted = position
                    continue
                if end > size:
                    if length < STREAMED:
                        break
                    self._passing, self._passing_for = end - size, owner
                    end = size
                if kind == _DATA_ROW:
                    owner.rows += 1
                position = end
                continue
            if end > size:
                break
            handler = handlers.get(kind)
            if handler is None:
                raise ProtocolViolation(f"the server sent a message of unknown type {kind}")
            replaced = handler(data, position + 5, end)
            if replaced is not None:
                self._flush(view, sent, position, owner, noted)
                sent = noted = end
                if replaced:
                    self._emit(replaced)
                    self._note(owner, replaced)
            position = end
            current = awaited[0].running if awaited else None
            if current is not owner:
                if noted < end:
                    self._note(owner, view[noted:end])
                    noted = end
                owner = current
            if self._finished:
                self._report()
        self._flush(view, sent, position, owner, noted)
        if position < size:
            self._hold(data, position, size)

    def _flush(self, view: memoryview, sent: int, until: int, owner: Running | None, noted: int) -> None:
        if sent < until:
            self._emit(view[sent:until])
        if noted < until:
            self._note(owner, view[noted:until])

    def _emit(self, piece: bytes | memoryview) -> None:
        self.to_client.append(piece)
        self.state.bytes += len(piece)

    def _note(self, owner: Running | None, piece: bytes | memoryview) -> None:
        if owner is not None:
            owner.bytes += len(piece)
            if self._record:
                self._listener.response(owner.id, piece)

    def _report(self) -> None:
        for running, outcome in self._finished:
            self.state.written += running.written
            self.state.rows += running.rows
            self._listener.ended(running, outcome)
        self._finished.clear()

    def _hold(self, data: bytes, position: int, size: int) -> None:
        """Keeps an incomplete message until it is whole."""
        need = 5
        if position + 5 <= size:
            need = 1 + UINT32.unpack_from(data, position + 1)[0]
            if need > MAX_HELD:
                raise FatalError(
                    "54000",
                    f"A message of {need} bytes is too large to be masked ({MAX_HELD} at most); it was not sent.",
                    hint="Select less of the value, for instance with left() or substring().",
                )
        self._held += data[position:size]
        self._need = need

    # -- rows

    def _rows_expected(self, kind: int) -> Awaited:
        awaited = self.state.awaited
        if not awaited or awaited[0].kind not in _GIVES_ROWS or awaited[0].denial is not None:
            raise ProtocolViolation("the server sent a row that nothing asked for")
        head = awaited[0]
        running = head.running
        if kind == _DATA_ROW and running is not None and head.kind == Kind.EXECUTE and running.described is None:
            self._describe(head, running)
        return head

    def _describe(self, head: Awaited, running: Running) -> None:
        """The rows of an Execute come without RowDescription; the mask and the record need the one that holds."""
        portal = head.portal
        assert portal is not None
        if portal.description is None and portal.statement.description is not None and portal.bind:
            portal.description = with_formats(portal.statement.description, result_formats(portal.bind))
        running.described = portal.description or b""
        if running.mask is not None:
            running.mask.describe(portal.description, running.completed)
        if portal.description and self._record:
            self._listener.response(running.id, wire.frame(b"T", portal.description))

    def _touched_rows(self, data: bytes, position: int, kind: int, head: Awaited) -> int:
        """Whole rows from `position` on that are masked, or that the client must not see. Returns where they end."""
        size, start, count = len(data), position, 0
        while position + 5 <= size and data[position] == kind:
            length: int = UINT32.unpack_from(data, position + 1)[0]
            if not 4 <= length <= wire.MAX_MESSAGE:
                raise ProtocolViolation(f"the server sent a row of {length} bytes")
            if position + 1 + length > size:
                break
            if head.hidden and head.values is not None:
                columns = wire.parse_data_row(data[position + 5 : position + 1 + length])
                if len(columns) != 1:
                    raise ProtocolViolation(f"the server answered SHOW with {len(columns)} columns")
                head.values.append((columns[0] or b"").decode(errors="replace"))
            position += 1 + length
            count += 1
        running = head.running
        if running is None:
            if not head.hidden:
                raise ProtocolViolation("the server sent a row that nothing asked for")
            return position
        mask = running.mask
        assert mask is not None
        frames = data[start:position] if start or position < size else data
        if kind == _DATA_ROW:
            running.rows += count
            frames = mask.rows(frames)
        else:
            frames = mask.copy(frames)
        if frames:
            self._emit(frames)
            self._note(running, frames)
        return position

    # -- replies; each handler says what becomes of its message

    def _head(self, *kinds: Kind) -> Awaited:
        awaited = self.state.awaited
        if not awaited or awaited[0].kind not in kinds:
            owed = awaited[0].kind.name if awaited else "nothing"
            raise ProtocolViolation(f"the server answered out of order: {owed} was to be answered")
        return awaited[0]

    def _accepted(self, *kinds: Kind) -> Awaited:
        head = self._head(*kinds)
        if head.denial is not None:
            raise ProtocolViolation("the server accepted what was put in the place of a refused statement")
        return head

    def _row_description(self, data: bytes, start: int, end: int) -> bytes | None:
        head = self._accepted(Kind.QUERY, Kind.DESCRIBE_PORTAL, Kind.DESCRIBE_STATEMENT)
        body = data[start:end]
        if head.kind == Kind.QUERY:
            running = head.running
            if running is not None:
                running.described = body
                if running.mask is not None:
                    running.mask.describe(body, running.completed)
            return None
        return self._described(head, body)

    def _no_data(self, _data: bytes, _start: int, _end: int) -> bytes | None:
        return self._described(self._accepted(Kind.DESCRIBE_PORTAL, Kind.DESCRIBE_STATEMENT), b"")

    def _described(self, head: Awaited, body: bytes) -> bytes | None:
        if head.portal is not None:
            head.portal.description = body
        if head.statement is not None:
            head.statement.description = body
        self.state.awaited.popleft()
        return _DROP if head.hidden else None

    def _parameter_description(self, data: bytes, start: int, end: int) -> bytes | None:
        head = self._accepted(Kind.DESCRIBE_STATEMENT)
        if head.statement is not None:
            head.statement.types = wire.parse_parameter_description(data[start:end])
        return _DROP if head.hidden else None

    def _parsed(self, _data: bytes, _start: int, _end: int) -> bytes | None:
        return self._changed(Kind.PARSE)

    def _bound(self, _data: bytes, _start: int, _end: int) -> bytes | None:
        return self._changed(Kind.BIND)

    def _closed(self, _data: bytes, _start: int, _end: int) -> bytes | None:
        return self._changed(Kind.CLOSE)

    def _changed(self, kind: Kind) -> bytes | None:
        head = self._accepted(kind)
        self.state.awaited.popleft()
        if head.hidden:
            return _DROP
        self.state.settle(head, executed=True, ok=True)
        return None

    def _command_complete(self, data: bytes, start: int, end: int) -> bytes | None:
        head = self._accepted(Kind.QUERY, Kind.EXECUTE)
        self.state.copying = False
        if head.kind == Kind.EXECUTE and head.running is not None:
            for statement in head.running.analysis.statements:
                self.state.status = _STATUS.get(statement.effects.transaction, self.state.status)
        running = head.running
        tail = b""
        if running is not None:
            if end > start:
                command, count = wire.rows_of_tag(data[start : end - 1])
                running.tags.append(data[start : end - 1].decode(errors="replace"))
                if command not in _READS:
                    running.written += count
            running.completed += 1
            if running.mask is not None:
                tail = running.mask.finish()
        if head.kind == Kind.EXECUTE:
            self._end(head, "ok")
        if head.hidden:
            return _DROP
        return tail + data[start - 5 : end] if tail else None

    def _suspended(self, _data: bytes, _start: int, _end: int) -> bytes | None:
        self._end(self._accepted(Kind.EXECUTE), "ok")
        return None

    def _end(self, head: Awaited, outcome: str) -> None:
        self.state.awaited.popleft()
        if head.running is not None:
            self._finished.append((head.running, outcome))

    def _ready(self, data: bytes, start: int, end: int) -> bytes | None:
        head = self._head(*ENDS_CYCLE)
        if end - start != 1:
            raise ProtocolViolation("ReadyForQuery: its body is one byte")
        if head.denial is not None and not head.failed:
            raise ProtocolViolation("the server accepted what was put in the place of a refused statement")
        self._end(head, "error" if head.failed else "ok")
        self.state.copying = False
        if self.state.ready(data[start:end]):
            self._listener.defined()
        return _DROP if head.hidden else None

    def _error(self, data: bytes, start: int, end: int) -> bytes | None:
        state = self.state
        state.copying = False
        if state.touched_session:
            state.unsure = True
        fields = wire.parse_notice(data[start:end])
        if fields.get("V", fields.get("S")) in ("FATAL", "PANIC"):
            self.fatal = True
        head = state.awaited[0] if state.awaited else None
        if head is None:
            return self._masked(data, start, end)
        if head.running is not None:
            head.running.error = (fields.get("C", ""), fields.get("M", ""))
        head.failed = True
        denial, hidden = head.denial, head.hidden
        if head.kind not in ENDS_CYCLE:
            self._skip_to_sync()
        if self.fatal:
            return self._masked(data, start, end, head.running)
        if denial is not None:
            return refusal(denial)
        if hidden and head.kind != Kind.DESCRIBE_PORTAL:
            # The question was the gateway's, but the transaction it failed in is the client's.
            raise FatalError(
                "08006", f"The settings that names are resolved by could not be asked for: {fields.get('M', '')}",
                hint="Connect again.",
            )  # fmt: skip
        return self._masked(data, start, end, head.running)

    def _skip_to_sync(self) -> None:
        """The server ignores everything after an error in the extended protocol, up to the next Sync."""
        awaited = self.state.awaited
        skipped: list[Awaited] = []
        while awaited and awaited[0].kind != Kind.SYNC:
            skipped.append(awaited.popleft())
        self.state.skipping = not awaited
        for index in range(len(skipped) - 1, -1, -1):
            entry = skipped[index]
            if entry.kind in CHANGES and not entry.hidden:
                self.state.settle(entry, executed=index == 0, ok=False)
        for index, entry in enumerate(skipped):
            if entry.running is not None:
                self._finished.append((entry.running, "skipped" if index else "error"))

    def _notice(self, data: bytes, start: int, end: int) -> bytes | None:
        return self._masked(data, start, end)

    def _masked(self, data: bytes, start: int, end: int, running: Running | None = None) -> bytes | None:
        if self.notices is None:
            return None
        if running is None and self.state.awaited:
            running = self.state.awaited[0].running
        return self.notices.message(data[start - 5 : end], running.text if running is not None else "")

    def _notification(self, data: bytes, start: int, end: int) -> bytes | None:
        return self._masked(data, start, end)

    def _parameter(self, data: bytes, start: int, end: int) -> bytes | None:
        self._listener.parameter(*wire.parse_parameter_status(data[start:end]))
        return None

    # -- COPY

    def _copy_in(self, _data: bytes, _start: int, _end: int) -> bytes | None:
        self._accepted(Kind.QUERY, Kind.EXECUTE)
        if len(self.state.awaited) > 1:
            raise FatalError("08P01", "The server began COPY FROM STDIN for a statement that was not known to do so.")
        self.state.copying, self.state.copy_ended = True, False
        return None

    def _copy_out(self, data: bytes, start: int, end: int) -> bytes | None:
        running = self._accepted(Kind.QUERY, Kind.EXECUTE).running
        if running is not None and running.mask is not None:
            running.mask.copying(data[start:end], running.completed)
        return None

    def _copy_done(self, data: bytes, start: int, end: int) -> bytes | None:
        head = self._accepted(Kind.QUERY, Kind.EXECUTE)
        tail = head.running.mask.finish() if head.running is not None and head.running.mask is not None else b""
        return tail + data[start - 5 : end] if tail else None


_STATUS: Final = {
    "BEGIN": b"T", "COMMIT": b"I", "ROLLBACK": b"I", "ROLLBACK_TO": b"T", "PREPARE_TRANSACTION": b"I",
}  # fmt: skip
"""The transaction status behind a command of a pipeline, until ReadyForQuery tells it."""
_ROWS: Final = frozenset({_DATA_ROW, _COPY_DATA})
_GIVES_ROWS: Final = frozenset({Kind.QUERY, Kind.EXECUTE})
_READS: Final = frozenset({"SELECT", "FETCH", "MOVE", "SHOW", "EXPLAIN"})


def refusal(denial: Denial) -> bytes:
    """The ErrorResponse of a refused request."""
    return wire.error_response(denial.code, denial.message, detail=denial.detail, hint=denial.hint)
