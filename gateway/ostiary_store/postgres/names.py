"""Numbers for what repeats in every row: who it was, what was decided, by which rule. Kept in mind once looked up."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Final

import orjson

from ostiary_store.postgres.database import Database

MOST: Final = 200_000
"""Names kept in mind of each kind."""

Name = tuple[object, ...]


class Names:
    """One table of them: `who`, `verdict` or `hit`."""

    def __init__(self, database: Database, table: str, columns: tuple[str, ...]) -> None:
        self._database = database
        self._table = table
        self._columns = columns
        self._numbers: dict[Name, int] = {}
        self._names: dict[int, Name] = {}

    async def numbers(self, names: Iterable[Name]) -> dict[Name, int]:
        """Of each, made if it is new. Not part of the caller's transaction: a name that nobody uses harms nobody."""
        wanted = set(names)
        known = self._numbers
        if missing := [name for name in wanted if name not in known]:
            async with self._database.connection() as connection:
                await self._make(connection, missing)
        found = {name: known[name] for name in wanted}
        if len(known) > MOST:
            known.clear()
            self._names.clear()
        return found

    async def _make(self, connection: Any, missing: list[Name]) -> None:
        by_hash = {_hash(name): name for name in missing}
        hashes = sorted(by_hash)
        columns = ", ".join(self._columns)
        places = ", ".join(f"${at}::text[]" for at in range(2, len(self._columns) + 2))
        values = [[_text(by_hash[each][at]) for each in hashes] for at in range(len(self._columns))]
        casts = ", ".join(f"{name}::boolean" if name in _FLAGS else name for name in self._columns)
        await connection.execute(
            f"insert into {self._table} (hash, {columns}) select hash, {casts}"
            f" from unnest($1::bytea[], {places}) as new (hash, {columns}) on conflict (hash) do nothing",
            hashes, *values,
        )  # fmt: skip
        rows = await connection.fetch(f"select id, hash from {self._table} where hash = any($1)", hashes)
        for row in rows:
            name = by_hash[row["hash"]]
            self._numbers[name] = row["id"]
            self._names[row["id"]] = name

    async def names(self, numbers: Iterable[int]) -> dict[int, Name]:
        """Of each; those that are in no row of the table are left out."""
        wanted = set(numbers)
        if missing := [number for number in wanted if number not in self._names]:
            rows = await self._database.fetch(
                f"select id, {', '.join(self._columns)} from {self._table} where id = any($1)", missing
            )
            for row in rows:
                self._names[row[0]] = tuple(row)[1:]
        return {number: self._names[number] for number in wanted if number in self._names}


_FLAGS: Final = frozenset({"would_deny", "enforced"})


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value).lower()


def _hash(name: Name) -> bytes:
    return sha256(orjson.dumps(name)).digest()
