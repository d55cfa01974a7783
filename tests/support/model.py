"""A model of PostgreSQL's side of the protocol: messages in, replies out, for a handful of statements.

It follows PostgresMain: pipelines, skipping until Sync after an error, failed transactions, portals that are suspended
and that end with their transaction, COPY, the unnamed statement. Replies leave only where the server flushes them, so
that a gateway that forgets to ask for them is found out. Texts may end with a comment; it tells them apart.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from support.wire import Message, frame

SECRET = "bob@example.com"
ROWS = 5

_ROW_SETS = {
    "select 1": ["1"],
    "select many": [str(number) for number in range(ROWS)],
    "select secret": [f"mail {SECRET} now", "nothing", SECRET],
    "select empty": [],
}
_EXITS = ("commit", "rollback", "rollback to s")


class ServerError(Exception):
    """An ErrorResponse that the server gives. `code` is an SQLSTATE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def error_response(code: str, message: str) -> bytes:
    fields = [("S", "ERROR"), ("V", "ERROR"), ("C", code), ("M", message)]
    return frame("E", b"".join(key.encode() + value.encode() + b"\0" for key, value in fields) + b"\0")


def base(text: str) -> str:
    """A statement without the comment that tells it from others like it."""
    return re.sub(r"\s*/\*[^*]*\*/", "", text).strip()


def statements(text: str) -> list[str]:
    return [part for part in (each.strip() for each in base(text).split(";")) if part]


@dataclass(slots=True)
class _Prepared:
    text: str

    @property
    def statement(self) -> str:
        return base(self.text)


@dataclass(slots=True)
class _Portal:
    prepared: _Prepared
    binary: bool = False
    rows: list[str] | None = None
    """What is left to give; None before it ran."""
    done: bool = False


@dataclass(slots=True)
class ModelServer:
    """`feed` takes any bytes of the client; `take` gives what the server has flushed."""

    denied: frozenset[str] = frozenset()
    """Statements that are refused, where a gateway's policy would refuse them."""
    direct: bool = True
    """False behind a gateway: then `denied` must never be heard of."""
    ran: list[str] = field(default_factory=list)
    """Texts that were executed, in order."""
    paths: dict[str, str] = field(default_factory=dict)
    """Text of a Query: the search_path that it began with."""
    meant: dict[str, str] = field(default_factory=dict)
    """Text with EXECUTE or FETCH: the statement that its name stood for."""
    heard: bytearray = field(default_factory=bytearray)
    status: str = "I"
    _in: bytearray = field(default_factory=bytearray)
    _out: bytearray = field(default_factory=bytearray)
    _flushed: bytearray = field(default_factory=bytearray)
    _skipping: bool = False
    _prepared: dict[str, _Prepared] = field(default_factory=dict)
    _portals: dict[str, _Portal] = field(default_factory=dict)
    _path: str = "public"
    _path_before: str = "public"
    _path_session: str | None = None
    _copying: Iterator[None] | None = None
    _copied: int = 0
    _copy_event: str = ""
    _after_copy: str = ""
    closed: bool = False
    _now: str = ""

    @property
    def copying(self) -> bool:
        return self._copying is not None

    @property
    def idle(self) -> bool:
        """True if no message is half read."""
        return not self._in

    def feed(self, data: bytes) -> None:
        self.heard += data
        self._in += data
        while not self.closed and len(self._in) >= 5:
            (length,) = struct.unpack_from("!i", self._in, 1)
            assert 4 <= length < 1 << 20, f"the server was sent a message of {length} bytes: {bytes(self._in[:40])!r}"
            if len(self._in) < length + 1:
                break
            kind, body = chr(self._in[0]), bytes(self._in[5 : length + 1])
            del self._in[: length + 1]
            self._message(kind, body)

    def take(self) -> bytes:
        data = bytes(self._flushed)
        self._flushed.clear()
        return data

    # -- the loop of PostgresMain

    def _message(self, kind: str, body: bytes) -> None:
        if kind == "X":
            self.closed = True
        elif self._copying is not None:
            self._copy_message(kind, body)
        elif kind in "dcf":
            pass
        elif kind == "S":
            self._skipping = False
            self._end_cycle()
        elif self._skipping:
            pass
        elif kind == "H":
            self._flush()
        elif kind == "Q":
            self._query(body)
        else:
            try:
                self._extended(kind, body)
            except ServerError as problem:
                self._fail(problem)
                self._skipping = True

    def _flush(self) -> None:
        self._flushed += self._out
        self._out.clear()

    def _say(self, kind: str, body: bytes = b"") -> None:
        self._out += frame(kind, body)

    def _fail(self, problem: ServerError) -> None:
        self._out += error_response(problem.code, str(problem))
        self._flush()
        if self.status == "T":
            self.status = "E"
            self._path, self._path_session = self._path_before, None
        elif self.status == "I":
            self._end_transaction(rollback=True)

    def _end_cycle(self) -> None:
        if self.status == "I":
            self._end_transaction(rollback=False)
        self._say("Z", self.status.encode())
        self._flush()

    def _end_transaction(self, *, rollback: bool) -> None:
        self._portals.clear()
        self._path = self._path_before if rollback or self._path_session is None else self._path_session
        self._path_before, self._path_session = self._path, None

    def _query(self, body: bytes) -> None:
        text = body[:-1].decode()
        self.paths[text] = self._path
        self._prepared.pop("", None)
        self._run_query(self._simple(text))

    def _run_query(self, work: Iterator[None]) -> None:
        """Runs a Query until COPY FROM STDIN waits for data, or to its end."""
        try:
            next(work)
        except StopIteration:
            pass
        except ServerError as problem:
            self._fail(problem)
        else:
            self._copying, self._after_copy = work, "Q"
            self._flush()
            return
        self._copying = None
        self._end_cycle()

    def _simple(self, text: str) -> Iterator[None]:
        parts = statements(text)
        if self.denied & set(parts):
            assert self.direct, f"refused, and yet it came: {text}"
            raise ServerError("42501", "denied")
        for part in parts:
            self._syntax(part)
        if not parts:
            self._say("I")
        for part in parts:
            self._check_failed(part)
            self._begin(text)
            portal = _Portal(_Prepared(part))
            if part in _ROW_SETS or part.startswith(("execute ", "fetch")):
                self._describe_rows(portal)
            yield from self._execute(portal, 0)

    def _syntax(self, statement: str) -> None:
        if statement.startswith(("selec ", "ostiary_refused_")):
            raise ServerError("42601", "syntax error")

    def _check_failed(self, statement: str) -> None:
        if self.status == "E" and statement not in _EXITS:
            raise ServerError("25P02", "current transaction is aborted")

    # -- the extended protocol

    def _extended(self, kind: str, body: bytes) -> None:
        if kind == "P":
            name, text, _ = body.split(b"\0", 2)
            self._parse(name.decode(), text.decode())
        elif kind == "B":
            portal, name, rest = body.split(b"\0", 2)
            self._bind(portal.decode(), name.decode(), rest)
        elif kind == "D":
            self._describe(chr(body[0]), body[1:-1].decode())
        elif kind == "E":
            name, limit = body.split(b"\0", 1)
            self._run_portal(name.decode(), struct.unpack("!i", limit)[0])
        elif kind == "C":
            names: dict[str, _Prepared] | dict[str, _Portal]
            names = self._prepared if body[:1] == b"S" else self._portals
            names.pop(body[1:-1].decode(), None)
            self._say("3")
        else:
            raise AssertionError(f"the server was sent {kind!r}")

    def _parse(self, name: str, text: str) -> None:
        if not name:
            self._prepared.pop("", None)
        parts = statements(text)
        if self.denied & set(parts):
            assert self.direct, f"refused, and yet it came: {text}"
            raise ServerError("42501", "denied")
        for part in parts:
            self._syntax(part)
        if len(parts) > 1:
            raise ServerError("42601", "cannot insert multiple commands into a prepared statement")
        if parts:
            self._check_failed(parts[0])
        if name in self._prepared:
            raise ServerError("42P05", f'prepared statement "{name}" already exists')
        if base(text) == "select nope":
            raise ServerError("42703", 'column "nope" does not exist')
        self._prepared[name] = _Prepared(text)
        self._say("1")

    def _bind(self, portal: str, name: str, rest: bytes) -> None:
        prepared = self._prepared.get(name)
        if prepared is None:
            raise ServerError("26000", _missing("prepared statement", name))
        if prepared.statement:
            self._check_failed(prepared.statement)
        if rest[2:4] != b"\0\0":
            raise ServerError("08P01", "bind message supplies 1 parameters, but prepared statement requires 0")
        if portal and portal in self._portals:
            raise ServerError("42P03", f'cursor "{portal}" already exists')
        self._portals[portal] = _Portal(prepared, binary=rest.endswith(b"\0\1\0\1"))
        self._say("2")

    def _describe(self, which: str, name: str) -> None:
        if which == "S":
            prepared = self._prepared.get(name)
            if prepared is None:
                raise ServerError("26000", _missing("prepared statement", name))
            portal = _Portal(prepared)
        else:
            if name not in self._portals:
                raise ServerError("34000", _missing("portal", name))
            portal = self._portals[name]
        if self._gives_rows(portal):
            self._check_failed(portal.prepared.statement)
        if which == "S":
            self._say("t", b"\0\0")
        if self._gives_rows(portal):
            self._describe_rows(portal)
        else:
            self._say("n")

    def _run_portal(self, name: str, limit: int) -> None:
        portal = self._portals.get(name)
        if portal is None:
            raise ServerError("34000", _missing("portal", name))
        text = portal.prepared.text
        if not portal.prepared.statement:
            self._say("I")
            return
        self._check_failed(portal.prepared.statement)
        self._begin(text)
        work = self._execute(portal, max(limit, 0))
        try:
            next(work)
        except StopIteration:
            return
        self._copying, self._after_copy = work, "E"
        self._flush()

    # -- statements

    def _begin(self, text: str) -> None:
        if not text.startswith("SHOW "):  # the gateway's own questions
            self.ran.append(text)
        self._now = text

    def _gives_rows(self, portal: _Portal) -> bool:
        statement = portal.prepared.statement
        if statement.startswith("execute "):
            named = self._prepared.get(statement.removeprefix("execute "))
            return named is not None and named.statement in _ROW_SETS
        return statement in _ROW_SETS or statement.lower().startswith(("fetch", "show "))

    def _describe_rows(self, portal: _Portal) -> None:
        if not self._gives_rows(portal):
            return
        column = struct.pack("!ihihih", 0, 0, 25, -1, -1, int(portal.binary))
        self._say("T", struct.pack("!h", 1) + b"column\0" + column)

    def _rows(self, portal: _Portal, limit: int, tag: str) -> None:
        rows = portal.rows or []
        given = rows[:limit] if limit else rows
        for row in given:
            self._say("D", struct.pack("!hi", 1, len(row)) + row.encode())
        portal.rows = rows[len(given) :]
        if limit and len(given) == limit:
            self._say("s")
        else:
            self._say("C", f"{tag} {len(given)}".encode() + b"\0")

    def _execute(self, portal: _Portal, limit: int) -> Iterator[None]:
        """Yields while COPY FROM STDIN waits for its data."""
        statement = portal.prepared.statement
        if statement in _ROW_SETS:
            if portal.rows is None:
                portal.rows = list(_ROW_SETS[statement])
            self._rows(portal, limit, "SELECT")
            return
        if portal.done:
            raise ServerError("55000", "portal cannot be run")
        portal.done = True
        if statement == "copy t from stdin":
            yield from self._copy_in()
        elif statement == "copy t to stdout":
            self._say("H", b"\0\0\1\0\0")
            for row in _ROW_SETS["select secret"]:
                self._say("d", row.encode() + b"\n")
            self._say("c")
            self._say("C", b"COPY 3\0")
        else:
            self._command(statement, limit, portal)

    def _command(self, statement: str, limit: int, portal: _Portal) -> None:
        words = statement.lower().split()
        tag = words[0].upper()
        match words:
            case ["begin"]:
                if self.status == "I":
                    self.status = "T"
            case ["commit"] | ["rollback"]:
                rollback = words[0] == "rollback" or self.status == "E"
                tag = "ROLLBACK" if rollback else tag
                self.status = "I"
                self._end_transaction(rollback=rollback)
            case ["set", "search_path", "=", value]:
                self._path = self._path_session = value
            case ["set", "local", "search_path", "=", value]:
                if self.status == "T":
                    self._path = value
                tag = "SET"
            case ["show", name]:
                portal.rows = [{"search_path": self._path, "client_encoding": "UTF8"}.get(name, "on")]
                self._rows(portal, limit, "SHOW")
                return
            case ["prepare", name, "as", *rest]:
                if name in self._prepared:
                    raise ServerError("42P05", f'prepared statement "{name}" already exists')
                self._prepared[name] = _Prepared(" ".join(rest))
            case ["deallocate", "all"]:
                self._prepared.clear()
                tag = "DEALLOCATE ALL"
            case ["deallocate", name]:
                if self._prepared.pop(name, None) is None:
                    raise ServerError("26000", _missing("prepared statement", name))
            case ["execute", name]:
                if name not in self._prepared:
                    raise ServerError("26000", _missing("prepared statement", name))
                inner = _Portal(self._prepared[name])
                if not inner.prepared.statement.startswith(("select ", "insert ")):
                    raise ServerError("0A000", "only what can be planned is executed by EXECUTE here")
                self.meant[self._now] = inner.prepared.statement
                for _ in self._execute(inner, limit):
                    raise AssertionError("COPY cannot be prepared")
                return
            case ["declare", name, "cursor", "for", *rest]:
                if self.status != "T":
                    raise ServerError("25P01", "DECLARE CURSOR can only be used in transaction blocks")
                if name in self._portals:
                    raise ServerError("42P03", f'cursor "{name}" already exists')
                self._portals[name] = _Portal(_Prepared(" ".join(rest)))
                tag = "DECLARE CURSOR"
            case ["fetch", count, "from", name]:
                cursor = self._portals.get(name)
                if cursor is None:
                    raise ServerError("34000", _missing("cursor", name))
                self.meant[self._now] = cursor.prepared.statement
                if cursor.rows is None:
                    cursor.rows = list(_ROW_SETS.get(cursor.prepared.statement, []))
                portal.rows = cursor.rows[: int(count)]
                cursor.rows = cursor.rows[int(count) :]
                self._rows(portal, limit, "FETCH")
                return
            case ["close", name]:
                if self._portals.pop(name, None) is None:
                    raise ServerError("34000", _missing("cursor", name))
                tag = "CLOSE CURSOR"
            case ["select", "notice()"]:
                fields = [("S", "NOTICE"), ("C", "00000"), ("M", f"see {SECRET}")]
                self._say("N", b"".join(key.encode() + value.encode() + b"\0" for key, value in fields) + b"\0")
            case ["insert", *_]:
                tag = "INSERT 0 1"
            case ["select", "1/0"]:
                raise ServerError("22012", "division by zero")
            case ["select", "fail()"]:
                raise ServerError("22000", f"it has {SECRET} in it")
            case _:
                raise ServerError("42601", f"syntax error: {words[0] if words else ''}")
        self._say("C", tag.encode() + b"\0")

    def _copy_in(self) -> Iterator[None]:
        self._say("G", b"\0\0\1\0\0")
        self._copied = 0
        yield
        self._say("C", f"COPY {self._copied}".encode() + b"\0")

    def _copy_message(self, kind: str, body: bytes) -> None:
        assert kind in "dcfHS", f"the server was sent {kind!r} in the middle of COPY FROM STDIN"
        if kind in "HS":
            return
        problem: ServerError | None = None
        if kind == "d":
            self._copied += body.count(b"\n")
            if b"bad" not in body:
                return
            problem = ServerError("22P02", "invalid input syntax")
        elif kind == "f":
            problem = ServerError("57014", "COPY from stdin failed")
        work, self._copying = self._copying, None
        assert work is not None
        if self._after_copy == "Q":
            if problem is None:
                self._run_query(work)
            else:
                self._fail(problem)
                self._end_cycle()
        elif problem is not None:
            self._fail(problem)
            self._skipping = True
        else:
            for _ in work:
                raise AssertionError("one COPY a portal")


def _missing(what: str, name: str) -> str:
    return f'{what} "{name}" does not exist' if name else f"unnamed {what} does not exist"


def messages(stream: bytes) -> list[Message]:
    """A stream of whole messages, cut."""
    found: list[Message] = []
    position = 0
    while position < len(stream):
        (length,) = struct.unpack_from("!i", stream, position + 1)
        found.append(Message(chr(stream[position]), stream[position + 5 : position + 1 + length]))
        position += 1 + length
    assert position == len(stream), "the stream ends inside a message"
    return found
