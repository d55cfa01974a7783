# cython: annotation_typing=False
"""What the client sends: each message is decided on, then forwarded, substituted or answered. No I/O.

`Frontend.advance()` goes on until something must be waited for, and says what; the relay calls it again with the
outcome. Meanwhile whole messages are appended to `to_server`. What takes several steps is a generator of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from . import denials, outside, wire
from .consequences import settles_names, take_effect
from .inbox import Inbox
from .questions import Admission, Ask, Effect, Outcome, Refused, Stage, Steps, Wait
from .settling import settled
from .state import CHANGES, Awaited, Denial, Kind, Portal, Prepared, Running, SessionState
from .substitutes import stand_in
from .wire import FLUSH, ProtocolViolation

MAX_AWAITED: Final = 4096
"""Replies that may be owed before the client has to wait: it bounds the memory of a pipeline."""
MAX_PREPARED: Final = 5000
"""Prepared statements that one session may hold."""
LARGE: Final = 16_384
"""Bytes; a larger message counts for the two limits below."""
MAX_UNDER_WAY: Final = 16 * 1024 * 1024
"""Bytes of large messages, then their replies are waited for: until they come, the messages are held."""
MAX_HELD: Final = 64 * 1024 * 1024
"""Bytes of large statements and parameters that one session may hold under names."""

TURN: Final = 256
"""Messages that are handled in one go, before other sessions have their turn."""


class Frontend:
    """Turns the client's messages into the server's. `admit` answers an Ask at once if it can, else None."""

    def __init__(
        self, state: SessionState, *, max_request: int, admit: Callable[[Ask], Admission | None]
    ) -> None:
        self.state = state
        self.inbox = Inbox(max_request)
        self.closed = False
        self.admit = admit
        self._outgoing: list[bytes | bytearray | memoryview] = []
        self._chunk = b""
        """Of this, `_from` to `_to` passes on as it came."""
        self._from = 0
        self._to = 0
        self.cycle_open = False
        """True after an extended-protocol message, until Sync."""
        self.ran_in_cycle = False
        """True if something was executed in the cycle that is open: it is a transaction with effects."""
        self._passes_copy_data = self._in_copy_data = False
        """Whether the CopyData message goes on to the server that the client is in the middle of."""
        self._handled = 0
        """Messages since this frontend last waited."""
        self._under_way = 0
        """Bytes of large messages since the replies were last waited for."""
        self._steps: Steps | None = None
        """Of the message that takes several."""
        self.told_in_cycle = False
        """True if settings were asked for in the transaction of this cycle: its end may change them back, by SET LOCAL
        or by an error. A Query ends it too."""

    @property
    def to_server(self) -> list[bytes | bytearray | memoryview]:
        """What goes to the server now. Whoever sends it clears the list."""
        self._flush_passing()
        return self._outgoing

    def may_go_on(self, wait: Wait) -> bool:
        """True if what was waited for has come by the server's replies."""
        state = self.state
        if wait is _DRAIN:
            return state.awaited.first is None or (state.copying and not state.copy_ended)
        return wait is _ROOM and len(state.awaited) < MAX_AWAITED // 2

    def advance(self, outcome: Outcome) -> Effect | None:
        """Goes on until something must be waited for; None once the client has ended. `outcome`: of the last wait.

        Raises ProtocolViolation where the session cannot go on.
        """
        if self._steps is not None:
            effect = self._go_on(outcome)
            if effect is not None:
                return effect
        state, inbox = self.state, self.inbox
        while not self.closed:
            if self._handled >= TURN:
                self._handled = 0
                return _TURN
            if len(state.awaited) >= MAX_AWAITED:
                if self.cycle_open:
                    self.say(FLUSH)
                return _ROOM
            if not inbox.next():
                self._handled = 0
                return _READ
            self._handled += 1
            kind, start, stop = inbox.kind, inbox.start, inbox.stop
            if kind in (_COPY_DATA, _COPY_DONE, _COPY_FAIL):
                self._copy_data(kind, inbox.data, start, stop)
                if state.copy_ended:
                    first = state.awaited.first
                    if first is not None and first.kind == _QUERY_KIND:
                        return _DRAIN  # the same Query may copy once more
                continue
            if stop - start > LARGE:
                self._under_way += stop - start
                if self._under_way > MAX_UNDER_WAY:
                    self._steps = self._large(kind, inbox.data, start, stop)
                else:
                    self._steps = self._message(kind, inbox.data, start, stop)
            else:
                self._steps = self._message(kind, inbox.data, start, stop)
            if self._steps is not None:
                effect = self._go_on(None)
                if effect is not None:
                    return effect
        return None

    def close(self) -> None:
        """The session is over, whatever this was in the middle of."""
        if self._steps is not None:
            self._steps.close()
            self._steps = None

    def _go_on(self, outcome: Outcome) -> Effect | None:
        """The next step of the message that takes several; None once it was the last."""
        steps = self._steps
        assert steps is not None
        try:
            return steps.send(outcome)
        except StopIteration:
            self._steps = None
            return None

    def _large(self, kind: int, data: bytes, start: int, stop: int) -> Steps:
        yield from self.drained()
        self._under_way = stop - start
        steps = self._message(kind, data, start, stop)
        if steps is not None:
            yield from steps

    def _message(self, kind: int, data: bytes, start: int, stop: int) -> Steps | None:
        """Any message but those of COPY's data: forwarded, dropped, refused, or the steps that it takes."""
        state = self.state
        if state.copying and not state.copy_ended:
            if kind in (_FLUSH, _SYNC):
                return None
            if kind != _TERMINATE:
                raise ProtocolViolation(f"message {chr(kind)!r} in the middle of COPY FROM STDIN")
        if state.skipping and kind != _SYNC and kind != _TERMINATE:
            return None
        if self.inbox.oversized:
            return self._oversized(kind)
        return self._handle(kind, data, start, stop, False, False)

    def _handle(self, kind: int, data: bytes, start: int, stop: int, settled: bool, drained: bool) -> Steps | None:
        """Handles one message, or returns the steps that it takes.

        `settled`: what names mean was found out before it. `drained`: the replies that were owed have come.
        """
        state = self.state
        if kind == _SYNC:
            self._sync(data, start, stop)
            return None
        if kind == _DESCRIBE:
            return self._describe(data, start, stop, drained)
        if kind == _CLOSE:
            self._close(data, start, stop)
            return None
        if kind == _FLUSH:
            self._flush(start, stop)
            return None
        if kind == _TERMINATE:
            self.say(wire.TERMINATE)
            self.closed = True
            return None
        if kind == _FUNCTION:
            return self._function_call(data, start, stop)
        if not settled and (state.ddl_sent or state.unsure):
            return self._once_settled(kind, data, start, stop)
        if kind == _BIND:
            return self._bind(data, start, stop, drained)
        if kind == _EXECUTE:
            return self._execute(data, start, stop, drained)
        if kind == _PARSE:
            return self._parse(data, start, stop, drained)
        if kind == _QUERY:
            return self._query(data, start, stop, drained)
        raise ProtocolViolation(f"invalid frontend message type {kind}")

    def _once_settled(self, kind: int, data: bytes, start: int, stop: int) -> Steps:
        yield from settled(self)
        steps = self._handle(kind, data, start, stop, True, False)
        if steps is not None:
            yield from steps

    # -- simple protocol

    def _query(self, data: bytes, start: int, stop: int, drained: bool) -> Steps | None:
        p = data
        if _nul(data, start, stop) != stop - 1:
            raise ProtocolViolation("Query: the text must end with the message's only NUL byte")
        raw = p[start : stop - 1]
        try:
            text = raw.decode()
        except UnicodeDecodeError as problem:
            return self._refuse(Kind.QUERY, repr(raw[:200]), denials.not_utf8(problem))
        if not drained and self._names_in_doubt(text):
            return self._once_drained(_QUERY, data, start, stop)
        ask = Ask(_RUN, text, raw)
        admission = self.admit(ask)
        if admission is None:
            return self._asked(ask, data, start, stop, b"")
        return self._run_query(admission, text, data, start, stop)

    def _run_query(self, admission: Admission, text: str, data: bytes, start: int, stop: int) -> Steps | None:
        if admission.denial is not None:
            self._substitute(Kind.QUERY, admission.denial)
            return None
        running = Running(text, admission.verdict, admission.analysis, admission.mask, admission.plain)
        self._owe(Awaited(_QUERY_KIND, running), data, start, stop)
        if self.told_in_cycle:
            self._may_have_changed_back()
        return None if admission.plain else self._after(admission)

    def _function_call(self, data: bytes, start: int, stop: int) -> Steps:
        oid = wire.Reader(data[start:stop], "FunctionCall").uint32()
        return self._refuse(Kind.FUNCTION, f"FunctionCall {oid}", denials.FUNCTION_CALL)

    # -- extended protocol

    def _asked(self, ask: Ask, data: bytes, start: int, stop: int, name: bytes) -> Steps:
        """Waits for the answer, then does what the handler of the message would have done at once."""
        admission = yield ask
        assert isinstance(admission, Admission)
        if admission.ask_outside:
            elsewhere = yield from outside.ask_outside(self, ask)
            if elsewhere is None:
                return
            admission = elsewhere
        steps: Steps | None = None
        if ask.stage is Stage.PARSE:
            assert ask.statement is not None
            self._prepare(admission, ask.statement, data, start, stop)
        elif ask.stage is Stage.BIND:
            assert ask.portal is not None
            steps = self._make_portal(admission, ask.portal, data, start, stop)
        elif ask.portal is not None:
            steps = self._run_portal(admission, name, ask.portal, data, start, stop)
        else:
            steps = self._run_query(admission, ask.text, data, start, stop)
        if steps is not None:
            yield from steps

    def _parse(self, data: bytes, start: int, stop: int, drained: bool) -> Steps | None:
        p = data
        message = wire.parse_parse(p[start:stop])
        try:
            text = message.text.decode()
        except UnicodeDecodeError as problem:
            self.cycle_open = True
            return self._refuse(Kind.PARSE, repr(message.text[:200]), denials.not_utf8(problem), name=message.name)
        if not drained and self._names_in_doubt(text):
            return self._once_drained(_PARSE, data, start, stop)
        self.cycle_open = True
        name = message.name
        if name:
            state = self.state
            full = len(state.statements) >= MAX_PREPARED and name not in state.statements
            if full or self._too_much(name, stop - start):
                denial = denials.too_many_statements(MAX_PREPARED, MAX_HELD)
                return self._refuse(Kind.PARSE, text[:200], denial, name=name)
        statement = Prepared(name, text, message.types, message.text)
        ask = Ask(_PARSE_STAGE, text, message.text, statement)
        admission = self.admit(ask)
        if admission is None:
            return self._asked(ask, data, start, stop, name)
        self._prepare(admission, statement, data, start, stop)
        return None

    def _prepare(self, admission: Admission, statement: Prepared, data: bytes, start: int, stop: int) -> None:
        if admission.denial is not None:
            self._substitute(Kind.PARSE, admission.denial, statement.name)
            return
        state, name = self.state, statement.name
        previous = state.statements.get(name)
        state.change(False, name)
        state.statements[name] = statement
        entry = Awaited(_PARSE_KIND)
        entry.name, entry.statement, entry.previous = name, statement, previous
        self._owe(entry, data, start, stop)

    def _bind(self, data: bytes, start: int, stop: int, drained: bool) -> Steps | None:
        p = data
        middle = _nul(data, start, stop)
        end = _nul(data, middle + 1, stop)
        if end >= stop:
            raise ProtocolViolation("Bind: a string has no end")
        portal_name, statement_name = p[start:middle], p[middle + 1 : end]
        if middle - start > _SURE_NAME or end - middle > _SURE_NAME:
            portal_name = wire.checked_name(portal_name, "Bind")
            statement_name = wire.checked_name(statement_name, "Bind")
        if not drained and self.state.doubtful(False, statement_name):
            return self._once_drained(_BIND, data, start, stop)
        self.cycle_open = True
        return self._bind_known(portal_name, statement_name, data, start, stop)

    def _bind_known(
        self, portal_name: bytes, statement_name: bytes, data: bytes, start: int, stop: int
    ) -> Steps | None:
        statement = self.state.statements.get(statement_name)
        if statement is None:
            self._substitute(Kind.BIND, denials.no_statement(statement_name), portal_name)
            return None
        if portal_name and self._too_much(portal_name, stop - start):
            denial = denials.too_large_portals(MAX_HELD)
            return self._refuse(Kind.BIND, statement.text[:200], denial, name=portal_name)
        p = data
        portal = Portal(portal_name, statement, p[start:stop])
        ask = Ask(_BIND_STAGE, statement.text, statement.raw, statement, portal)
        admission = self.admit(ask)
        if admission is None:
            return self._asked(ask, data, start, stop, portal_name)
        return self._make_portal(admission, portal, data, start, stop)

    def _once_drained(self, kind: int, data: bytes, start: int, stop: int) -> Steps:
        """What a name means is known when the replies that are owed have come."""
        yield from self.drained()
        steps = self._handle(kind, data, start, stop, True, True)
        if steps is not None:
            yield from steps

    def _make_portal(self, admission: Admission, portal: Portal, data: bytes, start: int, stop: int) -> Steps | None:
        if admission.denial is not None:
            self._substitute(Kind.BIND, admission.denial, portal.name)
            return None
        if len(self.state.portals) >= MAX_PREPARED:
            return self._forget_first(portal, data, start, stop)
        self._add_portal(portal, data, start, stop)
        return None

    def _forget_first(self, portal: Portal, data: bytes, start: int, stop: int) -> Steps:
        self.say(FLUSH)
        yield Wait.DRAIN
        self.state.forget_portals()
        self._add_portal(portal, data, start, stop)

    def _add_portal(self, portal: Portal, data: bytes, start: int, stop: int) -> None:
        state, name = self.state, portal.name
        previous = state.portals.get(name)
        state.change(True, name)
        state.portals[name], portal.epoch = portal, state.epoch
        entry = Awaited(_BIND_KIND)
        entry.name, entry.portal_kind, entry.portal, entry.previous = name, True, portal, previous
        self._owe(entry, data, start, stop)

    def _describe(self, data: bytes, start: int, stop: int, drained: bool) -> Steps | None:
        p = data
        if stop - start == 2 and p[start] == 80 and p[start + 1] == 0:
            portal, name = True, b""
        else:
            which, name = wire.parse_target(p[start:stop], "Describe")
            portal = which == b"P"
        if not drained and self.state.doubtful(portal, name):
            return self._once_drained(_DESCRIBE, data, start, stop)
        self.cycle_open = True
        if portal:
            entry = Awaited(_DESCRIBE_PORTAL)
            entry.portal = self.state.portals.get(name)
        else:
            entry = Awaited(_DESCRIBE_STATEMENT)
            entry.statement = self.state.statements.get(name)
        entry.name = name
        self._owe(entry, data, start, stop)
        return None

    def _execute(self, data: bytes, start: int, stop: int, drained: bool) -> Steps | None:
        p = data
        name = b"" if stop - start == 5 and p[start] == 0 else wire.parse_execute(p[start:stop])[0]
        if not drained and self.state.doubtful(True, name):
            return self._once_drained(_EXECUTE, data, start, stop)
        self.cycle_open = True
        portal = self.state.portals.get(name)
        if portal is None:
            self._substitute(Kind.EXECUTE, denials.no_portal(name))
            return None
        statement = portal.statement
        if not drained and self._names_in_doubt(statement.text):
            return self._once_drained(_EXECUTE, data, start, stop)
        ask = Ask(_RUN, statement.text, statement.raw, statement, portal)
        admission = self.admit(ask)
        if admission is None:
            return self._asked(ask, data, start, stop, name)
        return self._run_portal(admission, name, portal, data, start, stop)

    def _run_portal(
        self, admission: Admission, name: bytes, portal: Portal, data: bytes, start: int, stop: int
    ) -> Steps | None:
        if admission.denial is not None:
            self._substitute(Kind.EXECUTE, admission.denial)
            return None
        if admission.needs_description and portal.description is None:
            described = portal.statement.description is not None and not admission.by_origin
            if not described and not self._describe_follows(portal):
                hidden = Awaited(_DESCRIBE_PORTAL, hidden=True, name=name, portal=portal)
                self.owe(hidden, wire.describe_message(b"P", name))
        running = Running(
            portal.statement.text, admission.verdict, admission.analysis, admission.mask, admission.plain
        )
        self.ran_in_cycle = True
        entry = Awaited(_EXECUTE_KIND, running)
        entry.portal = portal
        self._owe(entry, data, start, stop)
        return None if admission.plain else self._after(admission)

    def _describe_follows(self, portal: Portal) -> bool:
        """True if the client's own Describe of this very portal comes before, and its answer is still owed."""
        last = self.state.awaited.last
        return last is not None and last.kind == _DESCRIBE_PORTAL and last.portal is portal

    def _close(self, data: bytes, start: int, stop: int) -> None:
        self.cycle_open = True
        which, name = wire.parse_target(data[start:stop], "Close")
        state, portal = self.state, which == b"P"
        previous: Prepared | Portal | None
        previous = state.portals.pop(name, None) if portal else state.statements.pop(name, None)
        state.change(portal, name)
        entry = Awaited(Kind.CLOSE, name=name, portal_kind=portal, previous=previous)
        self._owe(entry, data, start, stop)

    def _sync(self, data: bytes, start: int, stop: int) -> None:
        if start != stop:
            raise ProtocolViolation("Sync: a body where there is none")
        self.cycle_open = self.ran_in_cycle = False
        self._owe(Awaited(_SYNC_KIND), data, start, stop)
        self.state.epoch += 1
        if self.told_in_cycle:
            self._may_have_changed_back()

    def _may_have_changed_back(self) -> None:
        """The transaction ends in which the settings were asked for."""
        self.state.unsure = True
        self.told_in_cycle = False

    def _flush(self, start: int, stop: int) -> None:
        if start != stop:
            raise ProtocolViolation("Flush: a body where there is none")
        self.say(FLUSH)

    # -- COPY FROM STDIN

    def _copy_data(self, kind: int, data: bytes, start: int, stop: int) -> None:
        expected = self.state.copying and not self.state.copy_ended
        if kind == _COPY_DATA:
            # A message of which the server has the length goes on to its end, though COPY may have failed meanwhile:
            # else the server would take what comes next for the rest of it.
            if not self._in_copy_data:
                self._passes_copy_data = expected
            self._in_copy_data = self.inbox.in_copy_data
            if self._passes_copy_data:
                self._pass(data, start, stop)  # raw pieces, header and all
            return
        if not expected:
            return  # the server ignores these outside COPY (it has failed, most likely), so they go no further
        self._pass(data, start - 5, stop)
        self.state.copy_ended = True

    # -- what goes to the server

    def say(self, message: bytes) -> None:
        """A message of the gateway's own, in its place."""
        self._flush_passing()
        self._outgoing.append(message)

    def _pass(self, data: bytes, start: int, stop: int) -> None:
        """So much of what the client sent goes on as it is."""
        if self._chunk is data and self._to == start:
            self._to = stop
            return
        self._flush_passing()
        self._chunk, self._from, self._to = data, start, stop

    def _flush_passing(self) -> None:
        chunk, start, stop = self._chunk, self._from, self._to
        if start == stop:
            return
        p = chunk
        self._outgoing.append(chunk if stop - start == len(chunk) else p[start:stop])
        self._chunk, self._from, self._to = b"", 0, 0

    # -- what all of them share

    def _too_much(self, name: bytes, size: int) -> bool:
        """True if a large message would be held under a name beside too many others."""
        return bool(name) and size > LARGE and self.state.held + size > MAX_HELD

    def _after(self, admission: Admission) -> Steps:
        """What must be known before the next message can be understood."""
        take_effect(self.state, admission.analysis)
        if admission.decides_next or settles_names(admission.analysis):
            yield from self.drained()

    def _names_in_doubt(self, text: str) -> bool:
        """True if the text may run what has a name, and it is not known yet what the server takes some name for."""
        return self.state.in_doubt() and _RUNS_A_NAME.search(text) is not None

    def drained(self) -> Steps:
        """Until every reply has come. The server keeps those of a cycle that is open to itself, unless it is asked."""
        if self.cycle_open:
            self.say(FLUSH)
        yield Wait.DRAIN

    def hidden_sync(self) -> None:
        """A Sync that the client did not send, and sees nothing of."""
        self.owe(Awaited(Kind.SYNC, hidden=True), wire.SYNC)
        self.state.epoch += 1

    def _owe(self, entry: Awaited, data: bytes, start: int, stop: int) -> None:
        """The client's message goes on, and its reply is owed."""
        state = self.state
        if state.skipping and not self._resumed(entry):
            return
        state.awaited.append(entry)
        self._pass(data, start - 5, stop)

    def owe(self, entry: Awaited, message: bytes) -> None:
        """A message of the gateway's own goes to the server, and its reply is owed."""
        state = self.state
        if state.skipping and not self._resumed(entry):
            return
        state.awaited.append(entry)
        self.say(message)

    def _resumed(self, entry: Awaited) -> bool:
        """After an error the server ignores everything up to the Sync. What it ignores is not even sent."""
        state = self.state
        if entry.kind == Kind.SYNC:
            state.skipping = False
            return True
        # The error came while this was decided.
        if entry.kind in CHANGES:
            state.settle(entry, False, False)
        if entry.running is not None:
            state.skipped.append(entry.running)
        return False

    def _substitute(self, kind: Kind, denial: Denial, name: bytes = b"") -> None:
        """Sends, in the place of what was refused, a message that the server must reject: so the order of replies,
        the skipping until Sync and a failed transaction stay the server's own. Its error is rewritten on the way back.
        """
        self.owe(*stand_in(self.state, kind, denial, name))
        if kind in (_QUERY_KIND, Kind.FUNCTION) and self.told_in_cycle:
            self._may_have_changed_back()

    def _refuse(self, kind: Kind, text: str, denial: Denial, *, name: bytes = b"") -> Steps:
        """Refuses without asking a policy, but not without a record."""
        recorded = yield Refused(text, denial)
        assert isinstance(recorded, Denial)
        self._substitute(kind, recorded, name)

    def _oversized(self, kind: int) -> Steps:
        """A message over the limit: its body was thrown away as it came."""
        denial = denials.oversized(self.inbox.limit)
        kinds = {ord("Q"): Kind.QUERY, ord("P"): Kind.PARSE, ord("B"): Kind.BIND, ord("F"): Kind.FUNCTION}
        if kind in (ord("P"), ord("B")):
            self.cycle_open = True
        yield from self._refuse(kinds[kind], f"({self.inbox.discarded} bytes, over the limit)", denial)


def _nul(data: bytes, start: int, stop: int) -> int:
    """Where the next NUL byte is from `start` on; `stop` or behind if there is none before it."""
    p = data
    while start < stop and p[start] != 0:
        start += 1
    return start


_SURE_NAME: Final = wire.MAX_NAME // 2
"""Bytes of a name that `checked_name` has nothing to say about."""
_READ, _TURN, _DRAIN, _ROOM = Wait.READ, Wait.TURN, Wait.DRAIN, Wait.ROOM
_PARSE_STAGE, _BIND_STAGE, _RUN = Stage.PARSE, Stage.BIND, Stage.RUN
_RUNS_A_NAME: Final = re.compile(r"execute|fetch|move", re.IGNORECASE)
"""Words without which no statement runs a prepared statement, or reads a cursor."""
_QUERY, _PARSE, _BIND, _DESCRIBE, _EXECUTE, _CLOSE = b"QPBDEC"
_SYNC, _FLUSH, _FUNCTION, _TERMINATE = b"SHFX"
_COPY_DATA, _COPY_DONE, _COPY_FAIL = b"dcf"
_QUERY_KIND, _PARSE_KIND, _BIND_KIND, _EXECUTE_KIND = (
    int(Kind.QUERY), int(Kind.PARSE), int(Kind.BIND), int(Kind.EXECUTE)
)  # fmt: skip
_SYNC_KIND, _DESCRIBE_PORTAL, _DESCRIBE_STATEMENT = (
    int(Kind.SYNC), int(Kind.DESCRIBE_PORTAL), int(Kind.DESCRIBE_STATEMENT)
)  # fmt: skip
