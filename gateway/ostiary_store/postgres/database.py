"""Connections to the database, and its errors as StoreError."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from ostiary_store.model import StoreError
from ostiary_store.postgres.migrations import migrate

SCHEMA: Final = "ostiary"

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")

_SETTINGS: Final[Mapping[str, str]] = {
    "application_name": "ostiary",
    "client_min_messages": "error",
    # Compiling a plan takes longer than any query here may.
    "jit": "off",
    # A plan for any words is bad for most.
    "plan_cache_mode": "force_custom_plan",
    "timezone": "UTC",
}


class Database:
    """A pool of connections that find the schema's tables by their plain names."""

    def __init__(self, pool: asyncpg.Pool, schema: str, url: str) -> None:
        self.pool = pool
        self.schema = schema
        self._url = url

    @classmethod
    async def open(cls, url: str, *, connections: int = 10, make: bool = True) -> Self:
        """url: postgresql://…, with `?schema=NAME` where it is not `ostiary`. StoreError, also without `make` where no
        store is."""
        url, schema = _schema(url)
        with told():
            pool = await asyncpg.create_pool(
                url, min_size=0, max_size=connections, max_inactive_connection_lifetime=300, timeout=10,
                server_settings=_settings(schema),
            )  # fmt: skip
            database = cls(pool, schema, url)
            try:
                async with pool.acquire() as connection:
                    await migrate(connection, schema, make=make)
            except BaseException:
                pool.terminate()
                raise
        return database

    async def close(self) -> None:
        """Waits a moment for queries that still run."""
        import asyncio

        try:
            async with asyncio.timeout(5):
                await self.pool.close()
        except TimeoutError:
            self.pool.terminate()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[Any]:
        """A connection that the pool does not miss, for as long as one likes."""
        with told():
            connection = await asyncpg.connect(self._url, timeout=10, server_settings=_settings(self.schema))
        try:
            yield connection
        finally:
            try:
                await connection.close(timeout=1)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """StoreError for whatever goes wrong in it."""
        with told():
            async with self.pool.acquire(timeout=10) as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self, *, readonly: bool = False) -> AsyncIterator[Any]:
        """One state of the database, or one change of it."""
        async with self.connection() as connection:
            isolation = "repeatable_read" if readonly else None
            async with connection.transaction(isolation=isolation, readonly=readonly):
                yield connection

    async def fetch(self, query: str, *values: object) -> list[Any]:
        async with self.connection() as connection:
            return list(await connection.fetch(query, *values))

    async def fetchrow(self, query: str, *values: object) -> Any:
        async with self.connection() as connection:
            return await connection.fetchrow(query, *values)

    async def execute(self, query: str, *values: object) -> str:
        async with self.connection() as connection:
            return str(await connection.execute(query, *values))


@contextmanager
def told() -> Iterator[None]:
    """What the driver raises, as StoreError."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise StoreError(f"the store's database does not take it: {error or type(error).__name__}") from error
    except TimeoutError as error:
        raise StoreError("the store's database does not answer in time") from error
    except (OSError, OverflowError) as error:  # a port that is none
        raise StoreError(f"the store's database cannot be reached: {error}") from error


def _settings(schema: str) -> dict[str, str]:
    return {**_SETTINGS, "search_path": f'"{schema}"'}


def _schema(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    schema = SCHEMA
    kept = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name == "schema":
            schema = value
        else:
            kept.append((name, value))
    if not _NAME.fullmatch(schema):
        raise StoreError(f"{schema!r} cannot be the name of a schema: lower case letters, digits and _ only.")
    return urlunsplit(parts._replace(query=urlencode(kept))), schema
