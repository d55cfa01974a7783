"""Brings the database to the schema that this Ostiary knows: numbered SQL files, each once, whoever starts first."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

import asyncpg

from ostiary_store.model import StoreError

OLDEST: Final = 140000
"""PostgreSQL 14."""

_LOCK: Final = 0x4F53_5459_0001
"""Of the advisory locks: `OSTY`, migrations."""


def scripts() -> dict[int, str]:
    """By number."""
    found = {}
    for entry in files("ostiary_store.postgres").joinpath("schema").iterdir():
        name, dot, kind = entry.name.partition(".")
        if dot and kind == "sql":
            found[int(name)] = entry.read_text(encoding="utf-8")
    return dict(sorted(found.items()))


async def migrate(connection: asyncpg.Connection, schema: str, *, make: bool = True) -> None:
    """StoreError with words if this database cannot be used, or if nothing is there and nothing is to be made."""
    if connection.get_server_version().major * 10000 < OLDEST:
        told = connection.get_server_version()
        raise StoreError(f"the store needs PostgreSQL 14 or newer; this is {told.major}.{told.minor}. Upgrade it.")
    encoding = await connection.fetchval("show server_encoding")
    if encoding != "UTF8":
        raise StoreError(f"the store needs a database in UTF8; this one is {encoding}. Create another one.")
    known = scripts()
    newest = max(known)
    there = await _version(connection, schema, newest)
    if there == newest:
        return
    if not there and not make:
        raise StoreError(f"there is no store in this database (schema {schema!r}). `ostiary store serve` makes one.")
    try:
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
            version = await _version(connection, schema, newest)
            if version == newest:
                return
            quoted = '"' + schema.replace('"', '""') + '"'
            if not await connection.fetchval("select exists (select from pg_namespace where nspname = $1)", schema):
                await connection.execute(f"create schema {quoted}")
            await connection.execute("create table if not exists schema_version (version integer not null)")
            for number, script in known.items():
                if number > version:
                    await connection.execute(script)
                    await connection.execute("delete from schema_version")
                    await connection.execute("insert into schema_version values ($1)", number)
    except asyncpg.InsufficientPrivilegeError as error:
        raise StoreError(
            f"the schema {schema!r} must be made or brought up to date, and this role may not: {error}. Start"
            " `ostiary store serve` once with a role that may create in it."
        ) from error


async def _version(connection: asyncpg.Connection, schema: str, newest: int) -> int:
    there = await connection.fetchval(
        "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = $1 and c.relname = 'schema_version')",
        schema,
    )
    if not there:
        return 0
    version = int(await connection.fetchval("select coalesce(max(version), 0) from schema_version"))
    if version > newest:
        raise StoreError(
            f"the store was made by a newer Ostiary (its schema is {version}, this one knows {newest}). Use that one."
        )
    return version
