"""A few connections of a server's administrator: opened when needed, kept for a while, closed when idle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ostiary_gateway.leg import LegClosed

from . import wire
from .auth import KeyCache
from .upstream import Rows, ServerSession, Target, UpstreamError, connect, read_message
from .wire import ProtocolViolation

MAX_CONNECTIONS: Final = 4
STATEMENT_TIMEOUT: Final = 10.0
"""Seconds for one text of statements."""
LOCK_TIMEOUT: Final = 5.0
IDLE: Final = 30.0
"""Seconds after which a connection that is not used is closed."""
PARTING: Final = 1.0
"""Seconds for a connection to end (TLS has words of its own for that)."""
MAX_ANSWER: Final = 16 * 1024 * 1024


class AdminError(Exception):
    """The server refused a statement. `code` is the SQLSTATE; the message has the server's detail, and no secret."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class AdminConnection:
    """One connection; one text of statements at a time."""

    def __init__(self, session: ServerSession) -> None:
        self.version = session.version
        self.used = time.monotonic()
        self.fresh = True
        """True until it was used: it cannot have been lost unnoticed."""
        self._session = session
        self._ahead = 0.0

    @property
    def lost(self) -> bool:
        return self._session.leg.lost.done()

    @property
    def now(self) -> float:
        """Seconds since the epoch by the server's clock, as far as it was known when the connection was opened."""
        return time.monotonic() + self._ahead

    async def synchronise(self) -> None:
        rows = await self.run("SELECT extract(epoch FROM pg_catalog.clock_timestamp())")
        self._ahead = float(rows[0][0] or 0) - time.monotonic()

    async def run(self, sql: str) -> Rows:
        """Runs statements in one implicit transaction; the rows of all, as text. Raises AdminError or UpstreamError."""
        leg = self._session.leg
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT + LOCK_TIMEOUT):
                leg.write(wire.query_message(sql.encode()))
                return await self._answer()
        except AdminError:
            raise
        except (LegClosed, OSError, ProtocolViolation, TimeoutError) as problem:
            leg.abort()
            reason = str(problem) or "no answer in time"
            raise UpstreamError(f"the administrator's connection broke: {reason}") from None
        except BaseException:
            leg.abort()
            raise
        finally:
            self.used = time.monotonic()

    async def _answer(self) -> Rows:
        rows: Rows = []
        failure: AdminError | None = None
        size = 0
        while True:
            kind, body = await read_message(self._session.leg, wire.MAX_MESSAGE)
            size += len(body)
            if size > MAX_ANSWER:
                raise ProtocolViolation("an answer to the administrator is too large")
            if kind == b"D":
                rows.append(tuple(None if v is None else v.decode() for v in wire.parse_data_row(body)))
            elif kind == b"E":
                failure = _failure(wire.parse_notice(body))
            elif kind == b"Z":
                if failure is not None:
                    raise failure
                return rows

    def close(self) -> asyncio.Future[None]:
        """The future is done when the connection is gone."""
        self._session.leg.write(wire.TERMINATE)
        self._session.leg.close()
        return self._session.leg.lost


class Administration:
    """The administrator of one server. `application` is what others see of it in pg_stat_activity."""

    def __init__(self, target: Target, database: str, keys: KeyCache, application: str) -> None:
        self._target = target
        self._database = database
        self._keys = keys
        self._application = application
        self._free: list[AdminConnection] = []
        self._room = asyncio.Semaphore(MAX_CONNECTIONS)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AdminConnection]:
        """One that nobody else uses meanwhile. Raises UpstreamError."""
        async with self._room:
            found: AdminConnection | None = None
            while self._free and found is None:
                found = self._free.pop()
                if found.lost:
                    found = None
            if found is None:
                found = await self._open(self._database)
            try:
                yield found
            finally:
                found.fresh = False
                if not found.lost:
                    self._free.append(found)

    @asynccontextmanager
    async def elsewhere(self, database: str) -> AsyncIterator[AdminConnection]:
        """One to another database, closed afterwards. Raises UpstreamError."""
        found = await self._open(database)
        try:
            yield found
        finally:
            await _gone([found.close()])

    async def run(self, sql: str) -> Rows:
        """Raises AdminError or UpstreamError."""
        async with self.connection() as connection:
            return await connection.run(sql)

    def trim(self, keep: int) -> None:
        """Closes connections that were idle for long, but for so many."""
        limit = time.monotonic() - IDLE
        while len(self._free) > keep and self._free[0].used < limit:
            _ = self._free.pop(0).close()

    async def close(self) -> None:
        """Closes the connections that nobody uses."""
        free, self._free = self._free, []
        await _gone([connection.close() for connection in free])

    async def _open(self, database: str) -> AdminConnection:
        settings = {
            "database": database, "client_encoding": "UTF8", "standard_conforming_strings": "on",
            "application_name": self._application, "statement_timeout": str(int(STATEMENT_TIMEOUT * 1000)),
            "lock_timeout": str(int(LOCK_TIMEOUT * 1000)), "idle_session_timeout": "0", "search_path": "pg_catalog",
        }  # fmt: skip
        connection = AdminConnection(await connect(self._target, settings, self._keys))
        try:
            await connection.synchronise()
        except (AdminError, ValueError, IndexError) as problem:
            await _gone([connection.close()])
            raise UpstreamError(f"the administrator's connection is of no use: {problem}") from None
        return connection


async def _gone(connections: list[asyncio.Future[None]]) -> None:
    if connections:
        await asyncio.wait(connections, timeout=PARTING)


def _failure(fields: dict[str, str]) -> AdminError:
    detail = " ".join(fields.get("D", "").split("\n"))
    text = fields.get("M", "refused") + (f" ({detail})" if detail else "")
    return AdminError(fields.get("C", ""), text)
