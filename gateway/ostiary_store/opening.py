"""Opens the store that an address names."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ostiary_store.model import StoreError
from ostiary_store.store import Store


class Bucket(Protocol):
    """Where the bodies of parts may lie instead of in the database."""

    async def get(self, key: str) -> bytes:
        """LookupError if there is none."""


async def open_store(url: str, *, bucket: Bucket | None = None) -> Store:
    """url: `postgresql://…` (with `?schema=NAME` where that is not `ostiary`), or `sqlite:PATH`. StoreError."""
    scheme, _, rest = url.partition(":")
    if scheme in ("postgresql", "postgres"):
        from ostiary_store.postgres.store import PostgresStore

        return await PostgresStore.open(url, bucket=bucket)
    if scheme == "sqlite" and rest:
        from ostiary_store.sqlite.store import SqliteStore

        return await SqliteStore.open(Path(rest), bucket=bucket)
    raise StoreError(f"{scheme!r} is no kind of store. Name one as postgresql://USER@HOST/DATABASE, or as sqlite:PATH.")
