"""The gateway's own connections to a PostgreSQL server: one for each session, and one aside for its questions."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from ostiary_gateway.ids import new_id
from ostiary_gateway.leg import Leg, LegClosed

from . import wire
from .auth import KeyCache, Login, LoginFailed, ScramKeys
from .wire import ProtocolViolation

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for TCP, TLS and login together."""
QUESTION_TIMEOUT: Final = 10.0
"""Seconds for one question aside."""
LOCK_TIMEOUT: Final = 1.0
"""Seconds that such a question waits for a lock: others wait behind it."""
MAX_LOGIN_MESSAGE: Final = 65536
MAX_ANSWER: Final = 64 * 1024 * 1024


class UpstreamError(Exception):
    """The server cannot be reached, or does not let the gateway in. The message names no secret."""


class QuestionFailed(Exception):
    """The server refused a question of the gateway's. `code` is the SQLSTATE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server is, and as whom the gateway logs in."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    tls: ssl.SSLContext | None
    server_name: str
    keys: ScramKeys | None = field(default=None, repr=False)
    """In the place of a password: SCRAM only."""
    role: str = ""
    """The role to act as from the first statement on; empty: the login itself."""


class Logins(Protocol):
    """Where the logins at one server come from. The same object as long as the way there is the same."""

    async def take(self, session: str, agent: str) -> Target:
        """A login for one connection, of a session and an agent that are named. Raises UpstreamError."""

    async def entered(self, target: Target) -> None:
        """The connection is there: nobody else needs to log in with this. Raises UpstreamError."""

    def give_back(self, target: Target) -> None:
        """The connection with this login is gone, or never was. Once for every `take`."""

    def stand_in(self, role: str) -> str:
        """The role that a connection aside must take to plan what a session's `role` does."""


class FixedLogin:
    """One login for everybody."""

    def __init__(self, target: Target) -> None:
        self._target = target

    async def take(self, session: str, agent: str) -> Target:
        return self._target

    async def entered(self, target: Target) -> None:
        pass

    def give_back(self, target: Target) -> None:
        pass

    def stand_in(self, role: str) -> str:
        return role


@dataclass(slots=True)
class ServerSession:
    """A session that is logged in and ready: its leg, the reported parameters, and what a CancelRequest needs."""

    leg: Leg
    parameters: dict[str, str]
    process: int
    key: bytes
    method: str

    @property
    def version(self) -> int:
        """Major version; 0 if the server does not say."""
        digits = self.parameters.get("server_version", "").split(".")[0].split(" ")[0]
        return int("".join(c for c in digits if c.isdigit()) or 0)


async def _tcp(target: Target) -> Leg:
    loop = asyncio.get_running_loop()
    _, leg = await loop.create_connection(Leg, target.host, target.port)
    if target.tls is None:
        return leg
    try:
        leg.write(wire.SSL_REQUEST_PACKET)
        answer = await leg.read_exactly(1)
        if answer != b"S":
            raise UpstreamError(
                f"the server at {target.host}:{target.port} does not offer TLS; turn it on there, "
                "or set spec.upstream.tls.mode to Disable if the network is trusted"
            )
        if leg.buffered:
            # Bytes before the handshake would be taken for bytes inside it (CVE-2021-23222).
            raise UpstreamError("the server sent data before the TLS handshake")
        assert leg.transport is not None
        leg.transport = await loop.start_tls(leg.transport, leg, target.tls, server_hostname=target.server_name)
    except BaseException:
        leg.abort()
        raise
    return leg


async def connect(target: Target, settings: dict[str, str], keys: KeyCache) -> ServerSession:
    """Raises UpstreamError. `settings` are startup parameters besides user and role."""
    where = f"{target.host}:{target.port}"
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            leg = await _tcp(target)
            try:
                return await _login(leg, target, settings, keys)
            except BaseException:
                leg.abort()
                raise
    except TimeoutError:
        raise UpstreamError(f"no answer from {where} within {CONNECT_TIMEOUT:.0f} s") from None
    except ssl.SSLCertVerificationError as problem:
        raise UpstreamError(
            f"the certificate of {where} is not accepted: {problem.verify_message.rstrip('.')}; name its authority "
            "in spec.upstream.tls.caRef, or the name that it is for in serverName"
        ) from None
    except (OSError, LegClosed, EOFError) as problem:
        raise UpstreamError(f"cannot connect to {where}: {str(problem) or type(problem).__name__}") from None
    except LoginFailed as problem:
        raise UpstreamError(f"login at {where} as {target.user}: {problem}") from None
    except ProtocolViolation as problem:
        raise UpstreamError(f"{where} does not speak PostgreSQL's protocol: {problem}") from None


async def enter(
    logins: Logins, settings: dict[str, str], keys: KeyCache, *, session: str, agent: str
) -> tuple[ServerSession, Target]:
    """A connection with a login of its own, which is given back when the connection is gone. Raises UpstreamError."""
    target = await logins.take(session, agent)
    try:
        server = await connect(target, settings, keys)
        try:
            await logins.entered(target)
        except BaseException:
            server.leg.abort()
            raise
    except BaseException:
        logins.give_back(target)
        raise
    server.leg.lost.add_done_callback(lambda _: logins.give_back(target))
    return server, target


async def read_message(leg: Leg, limit: int) -> tuple[bytes, bytes]:
    """Type and body. Raises LegClosed, or ProtocolViolation for one of more bytes than `limit`."""
    header = await leg.read_exactly(5)
    length = wire.UINT32.unpack_from(header, 1)[0]
    if not 4 <= length <= limit:
        raise ProtocolViolation(f"a message {header[:1]!r} of {length} bytes")
    return header[:1], await leg.read_exactly(length - 4)


async def _login(leg: Leg, target: Target, settings: dict[str, str], keys: KeyCache) -> ServerSession:
    certificate = leg.tls.getpeercert(binary_form=True) if leg.tls is not None else None
    login = Login(target.user, target.password, keys, certificate=certificate, proof=target.keys)
    role = {"role": target.role} if target.role else {}
    leg.write(wire.startup_message(wire.PROTOCOL_3_0, {"user": target.user, **settings, **role}))
    session = ServerSession(leg, {}, 0, b"", "")
    while True:
        kind, body = await read_message(leg, MAX_LOGIN_MESSAGE)
        if kind == b"R":
            answer = login.authentication(body)
            if answer is not None:
                leg.write(answer)
        elif kind == b"E":
            fields = wire.parse_notice(body)
            raise LoginFailed(f"{fields.get('M', 'refused')} (SQLSTATE {fields.get('C', '?')})")
        elif not login.done:
            if kind not in (b"N", b"v"):
                raise ProtocolViolation(f"a message {kind!r} before the login ended")
        elif kind == b"S":
            name, value = wire.parse_parameter_status(body)
            session.parameters[name] = value
        elif kind == b"K":
            reader = wire.Reader(body, "BackendKeyData")
            session.process, session.key = reader.uint32(), reader.rest()
        elif kind == b"Z":
            session.method = login.method
            return session
        elif kind not in (b"N", b"v"):
            raise ProtocolViolation(f"a message {kind!r} during the login")


async def show(session: ServerSession, settings: Sequence[str]) -> tuple[str, ...]:
    """The values of these settings, asked for before the client's session begins. Raises UpstreamError."""
    values: list[str] = []
    session.leg.write(b"".join(wire.query_message(f"SHOW {name}".encode()) for name in settings))
    try:
        async with asyncio.timeout(QUESTION_TIMEOUT):
            for _ in settings:
                kind = b""
                while kind != b"Z":
                    kind, body = await read_message(session.leg, MAX_LOGIN_MESSAGE)
                    if kind == b"D":
                        values.append((wire.parse_data_row(body)[0] or b"").decode())
                    elif kind == b"S":
                        name, value = wire.parse_parameter_status(body)
                        session.parameters[name] = value
                    elif kind == b"E":
                        raise UpstreamError(wire.parse_notice(body).get("M", "SHOW failed"))
    except (TimeoutError, LegClosed, ProtocolViolation, UnicodeDecodeError) as problem:
        raise UpstreamError(f"the server did not tell its settings: {str(problem) or 'no answer'}") from None
    return tuple(values)


async def cancel(target: Target, process: int, key: bytes) -> None:
    """Sends a CancelRequest; the server answers nothing and closes. Raises UpstreamError."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            leg = await _tcp(target)
            leg.write(wire.cancel_request(process, key))
            try:
                await leg.lost
            finally:
                leg.abort()
    except (OSError, TimeoutError, LegClosed) as problem:
        raise UpstreamError(f"cancel: cannot reach {target.host}:{target.port}: {problem}") from None


Rows = list[tuple[str | None, ...]]


class Aside:
    """One connection for the gateway's own questions (catalog, EXPLAIN), opened when needed, one question at a time."""

    def __init__(self, logins: Logins, database: str, keys: KeyCache) -> None:
        self._logins = logins
        self._database = database
        self._keys = keys
        self._session: ServerSession | None = None
        self._lock = asyncio.Lock()

    def another(self) -> Aside:
        """A connection of its own to the same database."""
        return Aside(self._logins, self._database, self._keys)

    async def query(self, sql: str, params: Sequence[str | None] = ()) -> Rows:
        """Runs one statement; rows come as text. Raises QuestionFailed or UpstreamError."""
        async with self._lock, asyncio.timeout(QUESTION_TIMEOUT):
            return (await self._ask([_question(sql, [None if p is None else p.encode() for p in params])]))[0]

    async def describe(self, sql: str, search_path: str, role: str) -> bytes:
        """RowDescription's body of a statement that is not run; b"" if it gives no rows."""
        async with self._lock, asyncio.timeout(QUESTION_TIMEOUT):
            try:
                await self._ask(_scope(search_path, self._logins.stand_in(role)))
                return await self._describe(sql)
            finally:
                await self._roll_back()

    async def explain(
        self,
        sql: str,
        search_path: str,
        role: str,
        *,
        types: Sequence[int] = (),
        formats: Sequence[int] = (),
        values: Sequence[bytes | None] = (),
        form: str = "JSON",
    ) -> str:
        """EXPLAIN, in a read-only transaction: planning may run functions that claim to be immutable. `form`: JSON or
        TEXT."""
        async with self._lock, asyncio.timeout(QUESTION_TIMEOUT):
            try:
                await self._ask(_scope(search_path, self._logins.stand_in(role)))
                rows = (await self._ask([_question(f"EXPLAIN (FORMAT {form}) {sql}", values, types, formats)]))[0]
            finally:
                await self._roll_back()
        return "\n".join(row[0] or "" for row in rows)

    def stand_in(self, role: str) -> str:
        """The same for all sessions that have their own login role, else the role itself."""
        return self._logins.stand_in(role)

    async def close(self) -> None:
        async with self._lock:
            self.drop()

    def drop(self) -> None:
        """Closes the connection now; a question that is under way fails."""
        if self._session is not None:
            self._session.leg.write(wire.TERMINATE)
            self._session.leg.close()
            self._session = None

    async def _open(self) -> ServerSession:
        if self._session is not None and self._session.leg.lost.done():
            self._session = None
        if self._session is None:
            settings = {
                "database": self._database, "client_encoding": "UTF8", "standard_conforming_strings": "on",
                "application_name": "ostiary", "statement_timeout": str(int(QUESTION_TIMEOUT * 1000)),
                "lock_timeout": str(int(LOCK_TIMEOUT * 1000)),
                "default_transaction_read_only": "on", "search_path": "pg_catalog",
            }  # fmt: skip
            self._session, _ = await enter(self._logins, settings, self._keys, session=new_id(), agent="ostiary")
        return self._session

    async def _roll_back(self) -> None:
        if self._session is not None:
            await self._ask([_question("ROLLBACK")])

    async def _ask(self, questions: Sequence[bytes]) -> list[Rows]:
        """Each question with a Sync of its own. A connection that breaks in the middle is dropped."""
        session = await self._open()
        answers: list[Rows] = []
        try:
            for question in questions:
                session.leg.write(question)
                answers.append(await self._answer(session.leg))
        except QuestionFailed:
            raise
        except (LegClosed, OSError, ProtocolViolation) as problem:
            session.leg.abort()
            self._session = None
            raise UpstreamError(f"the connection for catalog questions broke: {problem}") from None
        except BaseException:
            session.leg.abort()
            self._session = None
            raise
        return answers

    async def _answer(self, leg: Leg) -> Rows:
        rows: Rows = []
        failure: QuestionFailed | None = None
        size = 0
        while True:
            kind, body = await read_message(leg, wire.MAX_MESSAGE)
            size += len(body)
            if size > MAX_ANSWER:
                raise ProtocolViolation("an answer from the catalog is too large")
            if kind == b"D":
                rows.append(tuple(None if v is None else v.decode() for v in wire.parse_data_row(body)))
            elif kind == b"E":
                fields = wire.parse_notice(body)
                failure = QuestionFailed(fields.get("C", ""), fields.get("M", ""))
            elif kind == b"Z":
                if failure is not None:
                    raise failure
                return rows

    async def _describe(self, sql: str) -> bytes:
        session = await self._open()
        try:
            session.leg.write(wire.parse_message(b"", sql.encode()) + wire.describe_message(b"S", b"") + wire.SYNC)
            description, failure = b"", None
            while True:
                kind, body = await read_message(session.leg, wire.MAX_MESSAGE)
                if kind == b"T":
                    description = body
                elif kind == b"E":
                    fields = wire.parse_notice(body)
                    failure = QuestionFailed(fields.get("C", ""), fields.get("M", ""))
                elif kind == b"Z":
                    if failure is not None:
                        raise failure
                    return description
        except (LegClosed, OSError, ProtocolViolation, asyncio.CancelledError) as problem:
            session.leg.abort()
            self._session = None
            if isinstance(problem, asyncio.CancelledError):
                raise
            raise UpstreamError(f"the connection for catalog questions broke: {problem}") from None


def _question(
    sql: str, values: Sequence[bytes | None] = (), types: Sequence[int] = (), formats: Sequence[int] = ()
) -> bytes:
    return (
        wire.parse_message(b"", sql.encode(), types)
        + wire.bind_message(b"", b"", values, formats)
        + wire.execute_message(b"")
        + wire.SYNC
    )


def _scope(search_path: str, role: str) -> list[bytes]:
    questions = [
        _question("BEGIN READ ONLY"),
        _question("SELECT set_config('search_path', $1, true)", [search_path.encode()]),
    ]
    if role:
        questions.append(_question("SELECT set_config('role', $1, true)", [role.encode()]))
    return questions
