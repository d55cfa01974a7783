# cython: annotation_typing=False
"""What the server sends: replies are matched with what they answer, masked, counted, recorded, and passed on. No I/O.

Chunks pass whole wherever nothing in them needs touching: `to_client` then holds the very buffer that came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cython

from . import wire
from ._framing import rows_until
from .state import CHANGES, ENDS_CYCLE, Awaited, Denial, Kind, Running, SessionState, result_formats, with_formats
from .wire import MAX_MESSAGE, UINT32, FatalError, ProtocolViolation

if cython.compiled:
    from cython.cimports.libc.string import memcmp

if TYPE_CHECKING:
    from .masks import NoticeMask

MAX_HELD: Final = 16 * 1024 * 1024
"""Bytes of one server message that may be held back because it must be seen whole (masked rows, errors)."""

STREAMED: Final = 65_536
"""Bytes; an incomplete row at least so large is passed on as it comes. A smaller one waits for its end, so that an
error can still be told in its place if the server breaks off."""

_DATA_ROW, _COMMAND_COMPLETE, _EMPTY_QUERY, _READY_FOR_QUERY, _ROW_DESCRIPTION = b"DCIZT"
_PARSE_COMPLETE, _BIND_COMPLETE, _CLOSE_COMPLETE, _NO_DATA, _PARAMETER_DESCRIPTION = b"123nt"
_ERROR_RESPONSE, _NOTICE_RESPONSE, _NOTIFICATION_RESPONSE, _PARAMETER_STATUS, _PORTAL_SUSPENDED = b"ENASs"
_COPY_IN_RESPONSE, _COPY_OUT_RESPONSE, _COPY_DATA, _COPY_DONE = b"GHdc"
_DROP: Final = b""


class Listener:
    """What the relay wants to know of the server's messages."""

    __slots__ = ()

    def response(self, running: Running, data: bytes | memoryview) -> None:
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
        self._last_body = b""
        self._last_frame = b""
        """The RowDescription that came last: mostly the next one is equal."""

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
        p = data
        size = len(data)
        position = sent = noted = start
        awaited = self.state.awaited
        first = awaited.first
        owner = None if first is None else first.running
        while position + 5 <= size:
            kind = p[position]
            length = p[position + 1]
            length = (length << 8) | p[position + 2]
            length = (length << 8) | p[position + 3]
            length = (length << 8) | p[position + 4]
            if length < 4 or length > MAX_MESSAGE:
                raise ProtocolViolation(f"the server sent a message {chr(kind)!r} of {length} bytes")
            end = position + 1 + length
            if kind in (_DATA_ROW, _COPY_DATA):
                head = self._rows_expected(kind)
                mask = None if owner is None else owner.mask
                if owner is None or (mask is not None and mask.active):
                    if end > size:
                        break
                    end, count = rows_until(data, position, kind)
                    if owner is None or mask is None:
                        self._flush(data, sent, position, owner, noted)
                        self._hidden_rows(data, position, end, head)
                        sent = noted = end
                    else:
                        frames = data if position == 0 and end == size else p[position:end]
                        shown = mask.rows(frames) if kind == _DATA_ROW else mask.copy(frames)
                        if kind == _DATA_ROW:
                            owner.rows += count
                        if shown is not frames:
                            self._flush(data, sent, position, owner, noted)
                            if shown:
                                self._emit(shown)
                                self._note(owner, shown)
                            sent = noted = end
                    position = end
                    continue
                count = 1
                if end <= size:
                    end, count = rows_until(data, position, kind)
                elif length < STREAMED:
                    break
                else:
                    self._passing, self._passing_for = end - size, owner
                    end = size
                if kind == _DATA_ROW:
                    owner.rows += count
                position = end
                continue
            if end > size:
                break
            replaced = self._message(kind, data, position + 5, end)
            if replaced is not None:
                self._flush(data, sent, position, owner, noted)
                sent = noted = end
                if replaced:
                    self._emit(replaced)
                    self._note(owner, replaced)
            position = end
            first = awaited.first
            current = None if first is None else first.running
            if current is not owner:
                if noted < end:
                    if owner is not None:
                        self._note(owner, _piece(data, noted, end))
                    noted = end
                owner = current
            if self._finished:
                self._report()
        self._flush(data, sent, position, owner, noted)
        if position < size:
            self._hold(data, position, size)

    def _message(self, kind: int, data: bytes, start: int, end: int) -> bytes | None:
        """Handles one that is no row: None to pass it on, b"" to drop it, or what replaces it."""
        if kind in (_COMMAND_COMPLETE, _EMPTY_QUERY):
            return self._command_complete(data, start, end)
        if kind == _READY_FOR_QUERY:
            return self._ready(data, start, end)
        if kind == _ROW_DESCRIPTION:
            return self._row_description(data, start, end)
        if kind == _BIND_COMPLETE:
            return self._changed(_BIND)
        if kind == _PARSE_COMPLETE:
            return self._changed(_PARSE)
        if kind == _CLOSE_COMPLETE:
            return self._changed(_CLOSE)
        if kind == _NO_DATA:
            return self._described(self._accepted(_DESCRIBES), b"")
        if kind == _PARAMETER_DESCRIPTION:
            return self._parameter_description(data, start, end)
        if kind == _ERROR_RESPONSE:
            return self._error(data, start, end)
        if kind in (_NOTICE_RESPONSE, _NOTIFICATION_RESPONSE):
            return self._masked(data, start, end, None)
        if kind == _PARAMETER_STATUS:
            name, value = wire.parse_parameter_status(data[start:end])
            self._listener.parameter(name, value)
            return None
        if kind == _PORTAL_SUSPENDED:
            self._end(self._accepted(_RUN_EXTENDED), "ok")
            return None
        if kind == _COPY_IN_RESPONSE:
            return self._copy_in()
        if kind == _COPY_OUT_RESPONSE:
            return self._copy_out(data, start, end)
        if kind == _COPY_DONE:
            return self._copy_done(data, start, end)
        raise ProtocolViolation(f"the server sent a message of unknown type {kind}")

    def _flush(self, data: bytes, sent: int, until: int, owner: Running | None, noted: int) -> None:
        """Passes on what goes as it came: from `sent` to the client, from `noted` into the record."""
        if sent < until:
            piece = _piece(data, sent, until)
            self._emit(piece)
            if owner is not None and noted == sent:
                self._note(owner, piece)
                return
        if owner is not None and noted < until:
            self._note(owner, _piece(data, noted, until))

    def _emit(self, piece: bytes | memoryview) -> None:
        self.to_client.append(piece)
        self.state.bytes += len(piece)

    def _note(self, owner: Running | None, piece: bytes | memoryview) -> None:
        if owner is not None:
            owner.bytes += len(piece)
            if self._record:
                self._listener.response(owner, piece)

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
        head = awaited.first
        if head is None or (head.kind != _EXECUTE and head.kind != _QUERY) or head.denial is not None:
            raise ProtocolViolation("the server sent a row that nothing asked for")
        if kind == _DATA_ROW and head.kind == _EXECUTE:
            running = head.running
            if running is not None and running.described is None:
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
            if portal.description is not self._last_body:
                self._last_body = portal.description
                self._last_frame = b""
            if not self._last_frame:
                self._last_frame = wire.frame(b"T", portal.description)
            self._listener.response(running, self._last_frame)

    def _hidden_rows(self, data: bytes, start: int, end: int, head: Awaited) -> None:
        """Whole rows that the client did not ask for, and must not see."""
        if not head.hidden:
            raise ProtocolViolation("the server sent a row that nothing asked for")
        if head.values is not None:
            for body in wire.bodies(data, start, end):
                columns = wire.parse_data_row(body)
                if len(columns) != 1:
                    raise ProtocolViolation(f"the server answered SHOW with {len(columns)} columns")
                head.values.append((columns[0] or b"").decode(errors="replace"))

    # -- replies; each handler says what becomes of its message

    def _head(self, kinds: int) -> Awaited:
        """The reply that is owed next; `kinds` has a bit for each Kind that it may be."""
        head = self.state.awaited.first
        if head is None or not (1 << head.kind) & kinds:
            owed = Kind(head.kind).name if head is not None else "nothing"
            raise ProtocolViolation(f"the server answered out of order: {owed} was to be answered")
        return head

    def _accepted(self, kinds: int) -> Awaited:
        head = self._head(kinds)
        if head.denial is not None:
            raise ProtocolViolation("the server accepted what was put in the place of a refused statement")
        return head

    def _row_description(self, data: bytes, start: int, end: int) -> bytes | None:
        head = self._accepted(_DESCRIBED)
        body = self._body(data, start, end)
        if head.kind != _QUERY:
            return self._described(head, body)
        running = head.running
        if running is not None:
            running.described = body
            if running.mask is not None:
                running.mask.describe(body, running.completed)
        return None

    def _body(self, data: bytes, start: int, end: int) -> bytes:
        """A RowDescription's body: the same object as that of the last one if it is equal."""
        p = data
        last = self._last_body
        if end - start == len(last):
            if cython.compiled:
                same = memcmp(p + start, _at(last), end - start) == 0  # type: ignore[operator]
            else:
                same = data.startswith(last, start)
            if same:
                return last
        self._last_body, self._last_frame = p[start:end], b""
        return self._last_body

    def _described(self, head: Awaited, body: bytes) -> bytes | None:
        if head.portal is not None:
            head.portal.description = body
        if head.statement is not None:
            head.statement.description = body
        self.state.awaited.answered()
        return _DROP if head.hidden else None

    def _parameter_description(self, data: bytes, start: int, end: int) -> bytes | None:
        head = self._accepted(_PARAMETERS_DESCRIBED)
        if head.statement is not None:
            head.statement.types = wire.parse_parameter_description(data[start:end])
        return _DROP if head.hidden else None

    def _changed(self, kind: int) -> bytes | None:
        head = self._accepted(1 << kind)
        self.state.awaited.answered()
        if head.hidden:
            return _DROP
        self.state.settle(head, True, True)
        return None

    def _command_complete(self, data: bytes, start: int, end: int) -> bytes | None:
        head = self._accepted(_RUN)
        self.state.copying = False
        running = head.running
        tail = b""
        if running is not None:
            if head.kind == _EXECUTE and not running.plain:
                for statement in running.analysis.statements:
                    if statement.effects.transaction:
                        self.state.status = _STATUS.get(statement.effects.transaction, self.state.status)
            if end > start:
                p = data
                self._completed(running, p[start : end - 1])
            running.completed += 1
            if running.mask is not None:
                tail = running.mask.finish()
        if head.kind == _EXECUTE:
            self._end(head, "ok")
        if head.hidden:
            return _DROP
        return tail + data[start - 5 : end] if tail else None

    def _completed(self, running: Running, tag: bytes) -> None:
        """CommandComplete: the tag, and how many rows were changed."""
        known = _KNOWN_TAGS.get(tag)
        if known is None:
            command, count = wire.rows_of_tag(tag)
            known = tag.decode(errors="replace"), 0 if command in _READS else count
            if len(_KNOWN_TAGS) >= MAX_TAGS:
                _KNOWN_TAGS.clear()
            _KNOWN_TAGS[tag] = known
        if running.tags is None:
            running.tags = [known[0]]
        else:
            running.tags.append(known[0])
        running.written += known[1]

    def _end(self, head: Awaited, outcome: str) -> None:
        self.state.awaited.answered()
        if head.running is not None:
            self._finished.append((head.running, outcome))

    def _ready(self, data: bytes, start: int, end: int) -> bytes | None:
        head = self._head(_ENDS)
        if end - start != 1:
            raise ProtocolViolation("ReadyForQuery: its body is one byte")
        if head.denial is not None and not head.failed:
            raise ProtocolViolation("the server accepted what was put in the place of a refused statement")
        self._end(head, "error" if head.failed else "ok")
        self.state.copying = False
        p = data
        if self.state.ready(p[start:end]):
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
        head = state.awaited.first
        if head is None:
            return self._masked(data, start, end, None)
        if head.running is not None:
            head.running.error = (fields.get("C", ""), fields.get("M", ""))
        head.failed = True
        denial, hidden = head.denial, head.hidden
        if not (1 << head.kind) & _ENDS:
            self._skip_to_sync()
        if self.fatal:
            return self._masked(data, start, end, head.running)
        if denial is not None:
            return refusal(denial)
        if hidden and head.kind != _DESCRIBE_PORTAL and head.portal is None:
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
        while awaited.first is not None and awaited.first.kind != _SYNC:
            skipped.append(awaited.answered())
        self.state.skipping = awaited.first is None
        for index in range(len(skipped) - 1, -1, -1):
            entry = skipped[index]
            if entry.kind in CHANGES and not entry.hidden:
                self.state.settle(entry, index == 0, False)
        for index, entry in enumerate(skipped):
            if entry.running is not None:
                self._finished.append((entry.running, "skipped" if index else "error"))

    def _masked(self, data: bytes, start: int, end: int, running: Running | None) -> bytes | None:
        if self.notices is None:
            return None
        first = self.state.awaited.first
        if running is None and first is not None:
            running = first.running
        return self.notices.message(data[start - 5 : end], running.text if running is not None else "")

    # -- COPY

    def _copy_in(self) -> bytes | None:
        self._accepted(_RUN)
        if len(self.state.awaited) > 1:
            raise FatalError("08P01", "The server began COPY FROM STDIN for a statement that was not known to do so.")
        self.state.copying, self.state.copy_ended = True, False
        return None

    def _copy_out(self, data: bytes, start: int, end: int) -> bytes | None:
        running = self._accepted(_RUN).running
        if running is not None and running.mask is not None:
            running.mask.copying(data[start:end], running.completed)
        return None

    def _copy_done(self, data: bytes, start: int, end: int) -> bytes | None:
        head = self._accepted(_RUN)
        tail = head.running.mask.finish() if head.running is not None and head.running.mask is not None else b""
        return tail + data[start - 5 : end] if tail else None


def _piece(data: bytes, start: int, end: int) -> bytes | memoryview:
    """A part of a chunk: a copy where that is cheaper than a view, and does not keep the chunk."""
    if end - start == len(data):
        return data
    if end - start <= COPIED:
        p = data
        return p[start:end]
    return memoryview(data)[start:end]


def _at(data: bytes) -> bytes:
    """Its bytes, for C."""
    return data


COPIED: Final = 4096
"""Bytes up to which a part is copied."""
MAX_TAGS: Final = 1024
_KNOWN_TAGS: Final[dict[bytes, tuple[str, int]]] = {}
"""Of a CommandComplete: the tag as text, and the rows that were changed."""
_STATUS: Final = {
    "BEGIN": b"T", "COMMIT": b"I", "ROLLBACK": b"I", "ROLLBACK_TO": b"T", "PREPARE_TRANSACTION": b"I",
}  # fmt: skip
"""The transaction status behind a command of a pipeline, until ReadyForQuery tells it."""
_QUERY, _PARSE, _BIND, _EXECUTE, _CLOSE, _SYNC, _DESCRIBE_PORTAL = (
    int(Kind.QUERY), int(Kind.PARSE), int(Kind.BIND), int(Kind.EXECUTE), int(Kind.CLOSE), int(Kind.SYNC),
    int(Kind.DESCRIBE_PORTAL),
)  # fmt: skip


def _bits(*kinds: Kind) -> int:
    return sum(1 << kind for kind in kinds)


_RUN, _RUN_EXTENDED = _bits(Kind.QUERY, Kind.EXECUTE), _bits(Kind.EXECUTE)
_DESCRIBES = _bits(Kind.DESCRIBE_PORTAL, Kind.DESCRIBE_STATEMENT)
_DESCRIBED = _bits(Kind.QUERY, Kind.DESCRIBE_PORTAL, Kind.DESCRIBE_STATEMENT)
_PARAMETERS_DESCRIBED = _bits(Kind.DESCRIBE_STATEMENT)
_ENDS = _bits(*ENDS_CYCLE)
_READS: Final = frozenset({"SELECT", "FETCH", "MOVE", "SHOW", "EXPLAIN"})


def refusal(denial: Denial) -> bytes:
    """The ErrorResponse of a refused request."""
    return wire.error_response(denial.code, denial.message, detail=denial.detail, hint=denial.hint)
