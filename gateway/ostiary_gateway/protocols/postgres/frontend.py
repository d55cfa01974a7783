"""What the client sends: each message is decided on, then forwarded, substituted or answered. No I/O.

`Frontend.run()` is a generator: it yields what it must wait for, and the relay sends the outcome back in. Between two
waits it appends whole messages to `to_server`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from . import wire
from .inbox import DISCARDED, Inbox
from .questions import SHOWN, Admission, Ask, Outcome, Refused, Settings, Stage, Steps, Wait
from .state import CHANGES, Awaited, Denial, Kind, Portal, Prepared, Running, SessionState
from .wire import FLUSH, ProtocolViolation

if TYPE_CHECKING:
    from .facts import Statement

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
        self.to_server: list[bytes | bytearray | memoryview] = []
        self.closed = False
        self._admit = admit
        self._cycle_open = False
        """True after an extended-protocol message, until Sync."""
        self._passes_copy_data = self._in_copy_data = False
        """Whether the CopyData message goes on to the server that the client is in the middle of."""
        self._told_in_cycle = False
        """True if settings were asked for in the cycle that is open: its end may change them back (SET LOCAL)."""
        self._handlers: dict[int, Callable[[bytes], Steps | None]] = {
            ord("Q"): self._query, ord("P"): self._parse, ord("B"): self._bind, ord("D"): self._describe,
            ord("E"): self._execute, ord("C"): self._close, ord("S"): self._sync, ord("H"): self._flush,
            ord("F"): self._function_call, ord("X"): self._terminate,
        }  # fmt: skip

    def may_go_on(self, wait: Wait) -> bool:
        """True if what was waited for has come by the server's replies."""
        state = self.state
        if wait is Wait.DRAIN:
            return not state.awaited or (state.copying and not state.copy_ended)
        return wait is Wait.ROOM and len(state.awaited) < MAX_AWAITED // 2

    def run(self) -> Steps:
        """Goes on until the client ends; raises ProtocolViolation where the session cannot."""
        state, inbox, handlers = self.state, self.inbox, self._handlers
        handled = under_way = 0
        while not self.closed:
            handled += 1
            if handled % TURN == 0:
                yield Wait.TURN
            if len(state.awaited) >= MAX_AWAITED:
                if self._cycle_open:
                    self.to_server.append(FLUSH)
                yield Wait.ROOM
            message = inbox.take()
            if message is None:
                yield Wait.READ
                continue
            kind, body = message
            if len(body) > LARGE and kind not in _COPY_KINDS:
                under_way += len(body)
                if under_way > MAX_UNDER_WAY:
                    yield from self._drained()
                    under_way = len(body)
            if kind in _COPY_KINDS:
                self._copy_data(kind, body)
                if state.copy_ended and not self._cycle_open:
                    yield Wait.DRAIN  # the same Query may copy once more
                continue
            if state.copying and not state.copy_ended:
                if kind in _IGNORED_WHILE_COPYING:
                    continue
                if kind != ord("X"):
                    raise ProtocolViolation(f"message {chr(kind)!r} in the middle of COPY FROM STDIN")
            if state.skipping and kind in _SKIPPED:
                continue
            handler = handlers.get(kind)
            if handler is None:
                raise ProtocolViolation(f"invalid frontend message type {kind}")
            if body is DISCARDED:
                yield from self._oversized(kind)
                continue
            steps = handler(body)
            if steps is not None:
                yield from steps

    # -- simple protocol

    def _query(self, body: bytes) -> Steps:
        raw = _whole_string(body, "Query")
        try:
            text = raw.decode()
        except UnicodeDecodeError as problem:
            yield from self._refuse(Kind.QUERY, repr(raw[:200]), _not_utf8(problem))
            return
        yield from self._settled()
        if self._names_in_doubt(text):
            yield from self._drained()
        ask = Ask(Stage.RUN, text)
        admission = self._admit(ask) or _admission((yield ask))
        if admission.denial is not None:
            self._substitute(Kind.QUERY, admission.denial)
            return
        running = _running(text, admission)
        self._owe(Awaited(Kind.QUERY, running), wire.query_message(raw))
        yield from self._after(admission)

    def _function_call(self, body: bytes) -> Steps:
        oid = wire.Reader(body, "FunctionCall").uint32()
        denial = Denial(
            "0A000", "The fast-path function call protocol is not available through Ostiary.",
            hint="Call the function with SELECT instead.",
        )  # fmt: skip
        yield from self._refuse(Kind.FUNCTION, f"FunctionCall {oid}", denial)

    # -- extended protocol

    def _parse(self, body: bytes) -> Steps:
        message = wire.parse_parse(body)
        yield from self._settled()
        self._cycle_open = True
        try:
            text = message.text.decode()
        except UnicodeDecodeError as problem:
            yield from self._refuse(Kind.PARSE, repr(message.text[:200]), _not_utf8(problem), name=message.name)
            return
        new = message.name and message.name not in self.state.statements
        if (new and len(self.state.statements) >= MAX_PREPARED) or self._too_much(message.name, len(body)):
            denial = Denial(
                "54000", f"This session holds {MAX_PREPARED} prepared statements, or {MAX_HELD} bytes of them and of "
                "portals, the most that Ostiary keeps.",
                hint="Close statements that are no longer needed (DEALLOCATE, or Close).",
            )  # fmt: skip
            yield from self._refuse(Kind.PARSE, text[:200], denial, name=message.name)
            return
        statement = Prepared(message.name, text, message.types)
        if self._names_in_doubt(text):
            yield from self._drained()
        ask = Ask(Stage.PARSE, text, statement)
        admission = self._admit(ask) or _admission((yield ask))
        if admission.denial is not None:
            self._substitute(Kind.PARSE, admission.denial, name=message.name, statement=statement)
            return
        self._register(Kind.PARSE, statement, wire.frame(b"P", body))

    def _bind(self, body: bytes) -> Steps:
        yield from self._settled()
        reader = wire.Reader(body, "Bind")
        portal_name, statement_name = reader.name(), reader.name()
        if self.state.doubtful(False, statement_name):
            yield from self._drained()
        self._cycle_open = True
        statement = self.state.statements.get(statement_name)
        if statement is None:
            self._substitute(Kind.BIND, _no_statement(statement_name), name=portal_name)
            return
        if self._too_much(portal_name, len(body)):
            denial = Denial(
                "54000", f"This session holds {MAX_HELD} bytes of statements and portals, the most that Ostiary keeps.",
                hint="Close portals that are no longer needed, or use the unnamed portal.",
            )  # fmt: skip
            yield from self._refuse(Kind.BIND, statement.text[:200], denial, name=portal_name)
            return
        portal = Portal(portal_name, statement, body)
        ask = Ask(Stage.BIND, statement.text, statement, portal)
        admission = self._admit(ask) or _admission((yield ask))
        if admission.denial is not None:
            self._substitute(Kind.BIND, admission.denial, name=portal_name)
            return
        state = self.state
        if len(state.portals) >= MAX_PREPARED:
            self.to_server.append(FLUSH)
            yield Wait.DRAIN
            state.forget_portals()
        entry = Awaited(
            Kind.BIND, name=portal_name, portal_kind=True, portal=portal, previous=state.portals.get(portal_name)
        )
        state.change(True, portal_name)
        state.portals[portal_name] = portal
        self._owe(entry, wire.frame(b"B", body))

    def _describe(self, body: bytes) -> Steps:
        which, name = wire.parse_target(body, "Describe")
        portal = which == b"P"
        if self.state.doubtful(portal, name):
            yield from self._drained()
        self._cycle_open = True
        if portal:
            entry = Awaited(Kind.DESCRIBE_PORTAL, name=name, portal=self.state.portals.get(name))
        else:
            entry = Awaited(Kind.DESCRIBE_STATEMENT, name=name, statement=self.state.statements.get(name))
        self._owe(entry, wire.frame(b"D", body))

    def _execute(self, body: bytes) -> Steps:
        yield from self._settled()
        name, _limit = wire.parse_execute(body)
        if self.state.doubtful(True, name):
            yield from self._drained()
        self._cycle_open = True
        portal = self.state.portals.get(name)
        if portal is None:
            self._substitute(Kind.EXECUTE, _no_portal(name))
            return
        if self._names_in_doubt(portal.statement.text):
            yield from self._drained()
        ask = Ask(Stage.RUN, portal.statement.text, portal.statement, portal)
        admission = self._admit(ask) or _admission((yield ask))
        if admission.denial is not None:
            self._substitute(Kind.EXECUTE, admission.denial)
            return
        described = portal.statement.description is not None and not admission.by_origin
        if admission.needs_description and portal.description is None and not described:
            hidden = Awaited(Kind.DESCRIBE_PORTAL, hidden=True, name=name, portal=portal)
            self._owe(hidden, wire.describe_message(b"P", name))
        running = _running(portal.statement.text, admission)
        self._owe(Awaited(Kind.EXECUTE, running, portal=portal), wire.frame(b"E", body))
        yield from self._after(admission)

    def _close(self, body: bytes) -> None:
        self._cycle_open = True
        which, name = wire.parse_target(body, "Close")
        state, portal = self.state, which == b"P"
        previous: Prepared | Portal | None
        previous = state.portals.pop(name, None) if portal else state.statements.pop(name, None)
        state.change(portal, name)
        self._owe(Awaited(Kind.CLOSE, name=name, portal_kind=portal, previous=previous), wire.frame(b"C", body))

    def _sync(self, body: bytes) -> None:
        if body:
            raise ProtocolViolation("Sync: a body where there is none")
        self._cycle_open = False
        self._owe(Awaited(Kind.SYNC), wire.SYNC)
        self.state.epoch += 1
        self.state.unsure |= self._told_in_cycle
        self._told_in_cycle = False

    def _flush(self, body: bytes) -> None:
        if body:
            raise ProtocolViolation("Flush: a body where there is none")
        self.to_server.append(FLUSH)

    def _terminate(self, _body: bytes) -> None:
        self.to_server.append(wire.TERMINATE)
        self.closed = True

    # -- COPY FROM STDIN

    def _copy_data(self, kind: int, raw: bytes) -> None:
        expected = self.state.copying and not self.state.copy_ended
        if kind == ord("d"):
            # A message of which the server has the length goes on to its end, though COPY may have failed meanwhile:
            # else the server would take what comes next for the rest of it.
            if not self._in_copy_data:
                self._passes_copy_data = expected
            self._in_copy_data = self.inbox.in_copy_data
            if self._passes_copy_data:
                self.to_server.append(raw)
            return
        if not expected:
            return  # the server ignores these outside COPY (it has failed, most likely), so they go no further
        self.to_server.append(wire.frame(bytes((kind,)), raw))
        self.state.copy_ended = True

    # -- what all of them share

    def _too_much(self, name: bytes, size: int) -> bool:
        """True if a large message would be held under a name beside too many others."""
        return bool(name) and size > LARGE and self.state.held + size > MAX_HELD

    def _after(self, admission: Admission) -> Steps:
        """What must be known before the next message can be understood."""
        state, analysis = self.state, admission.analysis
        effects = [statement.effects for statement in analysis.statements]
        if any(effect.may_change_session for effect in effects):
            state.unsure = state.touched_session = True
        if any(effect.ddl for effect in effects):
            state.ddl_sent = state.uncommitted_ddl = True
            state.has_temp = state.has_temp or any(_may_make_temporary(each) for each in analysis.statements)
        if any(effect.rebinds for effect in effects):
            state.rebound = True
        if state.touched_session and any(effect.transaction for effect in effects):
            state.unsure = True  # a rollback, or the end of a SET LOCAL, may have changed them back
        copies = any(effect.copy is not None and effect.copy.direction == "in" for effect in effects)
        names = any(
            effect.prepares or effect.deallocates or effect.declares_cursor or effect.closes_cursor
            for effect in effects
        )
        unknown = any(statement.facts["verb"] == "" for statement in analysis.statements)
        if copies or names or unknown or admission.decides_next:
            yield from self._drained()

    def _names_in_doubt(self, text: str) -> bool:
        """True if the text may run what has a name, and it is not known yet what the server takes some name for."""
        return bool(self.state.unsettled) and self.state.in_doubt and _RUNS_A_NAME.search(text) is not None

    def _drained(self) -> Steps:
        """Until every reply has come. The server keeps those of a cycle that is open to itself, unless it is asked."""
        if self._cycle_open:
            self.to_server.append(FLUSH)
        yield Wait.DRAIN

    def _settled(self) -> Steps:
        """Before a name is resolved: DDL has ended, and the settings that names are resolved by are known.

        It comes before a message opens a cycle: what is asked inside one makes a pipeline of it to the server, where
        VACUUM may not run and LOCK TABLE may.
        """
        state = self.state
        if not (state.ddl_sent or state.unsure):
            return
        if state.awaited:
            yield from self._drained()
        if state.ddl_sent:
            state.ddl_sent = False
            for statement in state.statements.values():
                statement.description = None
        if state.unsure and state.status != b"E":
            values = self._show()
            yield Wait.DRAIN
            if len(values) != len(SHOWN):
                return  # an error came first: the transaction has failed, nothing runs before it has ended
            state.unsure = False
            self._told_in_cycle = self._cycle_open
            yield Settings(tuple(values))

    def _show(self) -> list[str]:
        """Asks for the settings inside the client's own transaction. SHOW takes no snapshot, so it disturbs nothing."""
        values: list[str] = []
        nonce = b"ostiary_" + secrets.token_hex(8).encode()
        for setting in SHOWN:
            text = f"SHOW {setting}".encode()
            self._owe(Awaited(Kind.PARSE, hidden=True, name=nonce), wire.parse_message(nonce, text))
            self._owe(Awaited(Kind.BIND, hidden=True, name=nonce, portal_kind=True), wire.bind_message(nonce, nonce))
            self._owe(Awaited(Kind.EXECUTE, hidden=True, values=values), wire.execute_message(nonce))
            for which in (b"P", b"S"):
                entry = Awaited(Kind.CLOSE, hidden=True, name=nonce, portal_kind=which == b"P")
                self._owe(entry, wire.close_message(which, nonce))
        if self._cycle_open:
            self.to_server.append(FLUSH)
        else:
            self._owe(Awaited(Kind.SYNC, hidden=True), wire.SYNC)
            self.state.epoch += 1
        return values

    def _owe(self, entry: Awaited, message: bytes) -> None:
        state = self.state
        if state.skipping:
            # An error came while this was decided: the server ignores it, so it is not even sent.
            if entry.kind != Kind.SYNC:
                if entry.kind in CHANGES:
                    state.settle(entry, executed=False, ok=False)
                if entry.running is not None:
                    state.skipped.append(entry.running)
                return
            state.skipping = False
        state.awaited.append(entry)
        self.to_server.append(message)

    def _register(self, kind: Kind, statement: Prepared, message: bytes, denial: Denial | None = None) -> None:
        state = self.state
        previous = state.statements.get(statement.name)
        state.change(False, statement.name)
        if denial is None:
            state.statements[statement.name] = statement
        else:
            state.statements.pop(statement.name, None)
        entry = Awaited(kind, denial=denial, name=statement.name, previous=previous)
        entry.statement = None if denial is not None else statement
        self._owe(entry, message)

    def _substitute(
        self, kind: Kind, denial: Denial, *, name: bytes = b"", statement: Prepared | None = None
    ) -> None:
        """Sends, in the place of what was refused, a message that the server must reject: so the order of replies,
        the skipping until Sync and a failed transaction stay the server's own. Its error is rewritten on the way back.
        """
        nonce = b"ostiary_refused_" + secrets.token_hex(8).encode()
        if kind == Kind.PARSE:
            refused = statement or Prepared(name, "")
            self._register(Kind.PARSE, refused, wire.parse_message(name, nonce), denial)
        elif kind == Kind.BIND:
            state = self.state
            entry = Awaited(
                Kind.BIND, denial=denial, name=name, portal_kind=True, previous=state.portals.pop(name, None)
            )
            state.change(True, name)
            self._owe(entry, wire.bind_message(name, nonce))
        elif kind == Kind.EXECUTE:
            self._owe(Awaited(Kind.EXECUTE, denial=denial), wire.execute_message(nonce))
        else:
            self._owe(Awaited(kind, denial=denial), wire.query_message(nonce))

    def _refuse(self, kind: Kind, text: str, denial: Denial, *, name: bytes = b"") -> Steps:
        """Refuses without asking a policy, but not without a record."""
        recorded = yield Refused(text, denial)
        assert isinstance(recorded, Denial)
        self._substitute(kind, recorded, name=name)

    def _oversized(self, kind: int) -> Steps:
        """A message over the limit: its body was thrown away as it came."""
        denial = Denial(
            "54000",
            f"The message is larger than the limit of {self.inbox.limit} bytes for one request, and was not forwarded.",
            hint="Send the data with COPY FROM STDIN or in smaller statements, or raise spec.limits.maxRequestBytes.",
        )
        kinds = {ord("Q"): Kind.QUERY, ord("P"): Kind.PARSE, ord("B"): Kind.BIND, ord("F"): Kind.FUNCTION}
        if kind not in kinds:
            raise ProtocolViolation(f"message {chr(kind)!r} of more than {wire.MAX_SMALL} bytes")
        if kind in (ord("P"), ord("B")):
            self._cycle_open = True
        yield from self._refuse(kinds[kind], f"({self.inbox.discarded} bytes, over the limit)", denial)


_RUNS_A_NAME: Final = re.compile(r"execute|fetch|move", re.IGNORECASE)
"""Words without which no statement runs a prepared statement, or reads a cursor."""
_SKIPPED: Final = frozenset(b"QPBDECFH")
"""What the server ignores after an error in the extended protocol, up to the next Sync."""
_COPY_KINDS: Final = frozenset(b"dcf")
_IGNORED_WHILE_COPYING: Final = frozenset(b"HS")


def _running(text: str, admission: Admission) -> Running:
    return Running(admission.verdict.request, text, admission.verdict, admission.analysis, admission.mask)


def _may_make_temporary(statement: Statement) -> bool:
    """True unless it is plain that no temporary object is made: the word must stand in the text, escapes aside."""
    facts, text = statement.facts, statement.facts["text"].lower()
    named = any(relation["schema"] == "pg_temp" for relation in facts["relations"])
    return named or facts["opaque"] or "temp" in text or "u&" in text


def _whole_string(body: bytes, kind: str) -> bytes:
    """The one string that a body consists of."""
    if body.find(b"\0") != len(body) - 1:
        raise ProtocolViolation(f"{kind}: the text must end with the message's only NUL byte")
    return body[:-1]


def _admission(outcome: Outcome) -> Admission:
    assert isinstance(outcome, Admission)
    return outcome


def _not_utf8(problem: UnicodeDecodeError) -> Denial:
    return Denial(
        "22021", f'invalid byte sequence for encoding "UTF8": 0x{problem.object[problem.start]:02x}',
        hint="Ostiary reads statements as UTF-8, whatever client_encoding says.",
    )  # fmt: skip


def _no_statement(name: bytes) -> Denial:
    shown = name.decode(errors="backslashreplace")
    text = f'prepared statement "{shown}" does not exist' if name else "unnamed prepared statement does not exist"
    return Denial("26000", text)


def _no_portal(name: bytes) -> Denial:
    return Denial("34000", f'portal "{name.decode(errors="backslashreplace")}" does not exist')
