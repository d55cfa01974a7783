"""Opens the store that an address names."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

from ostiary_store.model import StoreError
from ostiary_store.store import Store


class Bucket(Protocol):
    """Where the bodies of parts may lie instead of in the database."""

    async def get(self, key: str) -> bytes:
        """LookupError if there is none."""


async def open_store(url: str, *, bucket: Bucket | None = None, make: bool = True) -> Store:
    """url: `postgresql://…` (with `?schema=NAME` where that is not `ostiary`), or `sqlite:PATH`; or the file of
    settings (`*.yaml`) that `ostiary store serve` has, with the bucket that is in it. StoreError; without `make` also
    for a database in which there is no store."""
    if url.endswith((".yaml", ".yml")) and bucket is None:
        url, bucket = await asyncio.to_thread(_by_settings, Path(url))
    scheme, _, rest = url.partition(":")
    if scheme in ("postgresql", "postgres"):
        from ostiary_store.postgres.store import PostgresStore

        return await PostgresStore.open(url, bucket=bucket, make=make)
    if scheme == "sqlite" and rest:
        from ostiary_store.sqlite.store import SqliteStore

        return await SqliteStore.open(Path(rest), bucket=bucket)
    raise StoreError(f"{scheme!r} is no kind of store. Name one as postgresql://USER@HOST/DATABASE, or as sqlite:PATH.")


def _by_settings(file: Path) -> tuple[str, Bucket | None]:
    from ostiary_store.objects import open_bucket
    from ostiary_store.settings import SettingsError, load

    try:
        settings = load(file)
        return settings.store.read(), None if settings.recordings is None else open_bucket(settings.recordings)
    except (SettingsError, OSError, ValueError) as problem:
        raise StoreError(f"the store of {file} cannot be opened: {problem}") from problem
