"""Bodies of long responses in a bucket, S3 or a directory; put before the database commits: no row names nothing.

A key is `DAY/SESSION/DIGEST`: what is put again after a failure lies under the same key, and what no row names any more
(a commit that never came, a retention that is over) is found day by day and swept.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import structlog

from ostiary_store.model import Batch, ChunkRow, PartRow, StoreError
from ostiary_store.settings import RecordingsSettings

if TYPE_CHECKING:
    from obstore import ListStream, ObjectMeta
    from obstore.store import ClientConfig, LocalStore, S3Config, S3Store

    from ostiary_store.store import Store

AT_ONCE: Final = 8
"""Requests to the bucket that are under way at one time."""
TIMEOUT: Final = 30.0
SETTLED: Final = 86_400.0
"""Seconds after which an object that no row names is nobody's: its commit would have come."""
EVERY: Final = 86_400.0
"""Seconds between sweeps of a day."""
PAUSE: Final = 300.0
_SESSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DELETE: Final = 500

_T = TypeVar("_T")

log = structlog.get_logger(__name__)


def key_of(part: PartRow) -> str:
    """Where its body lies."""
    day = datetime.fromtimestamp(part.opened, UTC).strftime("%Y-%m-%d")
    named = part.session if _SESSION.fullmatch(part.session) else hashlib.sha256(part.session.encode()).hexdigest()
    return f"{day}/{named}/{part.digest.hex()}"


class Bucket:
    """Bodies by key."""

    def __init__(self, objects: S3Store | LocalStore, name: str) -> None:
        self._objects = objects
        self._name = name
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def put(self, key: str, body: bytes) -> None:
        """As often as one likes. StoreError."""
        import obstore

        async with self._slots:
            await self._told(obstore.put_async(self._objects, key, body), key)

    async def get(self, key: str) -> bytes:
        """LookupError if there is none; StoreError."""
        import obstore

        async with self._slots:
            found = await self._told(obstore.get_async(self._objects, key), key)
            return bytes(await self._told(found.bytes_async(), key))

    async def read(self, key: str, start: int, size: int) -> bytes:
        """Some bytes of a body. LookupError if there is none; StoreError."""
        import obstore

        async with self._slots:
            return bytes(await self._told(obstore.get_range_async(self._objects, key, start=start, length=size), key))

    async def days(self) -> list[str]:
        """On which there is anything, ascending."""
        import obstore

        found = await self._told(obstore.list_with_delimiter_async(self._objects), "")
        names = (prefix.rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"])
        return sorted(name for name in names if _DAY.fullmatch(name))

    async def of_day(self, day: str) -> AsyncIterator[tuple[str, float]]:
        """Keys, and when each was put."""
        import obstore

        listed = obstore.list(self._objects, prefix=f"{day}/")
        while chunk := await self._told(_next(listed), day):
            for each in chunk:
                yield each["path"], each["last_modified"].timestamp()

    async def delete(self, keys: Sequence[str]) -> None:
        """Those that are there. StoreError."""
        import obstore

        for start in range(0, len(keys), _DELETE):
            try:
                await self._told(obstore.delete_async(self._objects, list(keys[start : start + _DELETE])), self._name)
            except LookupError:
                continue  # somebody else has deleted it

    async def _told(self, answer: Awaitable[_T], what: str) -> _T:
        from obstore import exceptions

        try:
            async with asyncio.timeout(TIMEOUT):
                return await answer
        except (exceptions.NotFoundError, FileNotFoundError):
            raise LookupError(f"{what} is not in {self._name}") from None
        except TimeoutError:
            raise StoreError(f"{self._name} does not answer within {TIMEOUT:.0f} s") from None
        except (exceptions.BaseError, OSError) as problem:
            # Its words hold the whole request, over many lines.
            said = " ".join(str(problem).split())[:300]
            raise StoreError(f"{self._name} cannot be used: {said}") from None


async def _next(listed: ListStream[Sequence[ObjectMeta]]) -> list[ObjectMeta]:
    try:
        return list(await listed.__anext__())
    except StopAsyncIteration:
        return []


def open_bucket(settings: RecordingsSettings) -> Bucket:
    """As the settings say. OSError or ValueError if they cannot be used."""
    from obstore.store import LocalStore, S3Store

    parts = urlsplit(settings.bucket)
    if parts.scheme == "file":
        path = Path(parts.path)
        if parts.netloc or not path.is_absolute():
            raise ValueError(f"{settings.bucket} must be file:// and an absolute path")
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Bucket(LocalStore(path), settings.bucket)
    options: ClientConfig = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=TIMEOUT)}
    config: S3Config = {"region": settings.region}
    if settings.endpoint is not None:
        config["endpoint"] = settings.endpoint
        options["allow_http"] = settings.endpoint.startswith("http://")
    if settings.ca_file is not None:
        options["root_certificate"] = settings.ca_file.read_text()
    if (keys := settings.keys()) is not None:
        config["access_key_id"], config["secret_access_key"] = keys
    try:
        made = S3Store(
            parts.netloc, prefix=parts.path.strip("/") or None, config=config, client_options=options,
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=15)},
        )  # fmt: skip
    except Exception as problem:
        raise ValueError(f"the bucket {settings.bucket} cannot be used: {problem}") from problem
    return Bucket(made, settings.bucket)


async def put_parts(bucket: Bucket, batch: Batch) -> None:
    """The bodies of the batch's parts go there, and their rows name them. StoreError: nothing may be committed."""
    named = [(part, key_of(part)) for part in batch.parts if part.body is not None]
    try:
        async with asyncio.TaskGroup() as group:
            for part, key in named:
                group.create_task(bucket.put(key, part.body or b""))
    except* StoreError as problems:
        raise StoreError(str(problems.exceptions[0])) from None
    keys = {id(part): key for part, key in named}
    batch.parts = [replace(part, body=None, key=keys[id(part)]) if id(part) in keys else part for part in batch.parts]


async def sweep_day(bucket: Bucket, store: Store, day: str, now: float) -> int:
    """Deletes what no row of that day names; how many. What is young may be about to be named."""
    old = [key async for key, put in bucket.of_day(day) if now - put > SETTLED]
    if not old:
        return 0
    named: set[bytes] = set()
    start = int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    async for row in store.scan_rows(start, bodies=False):
        if isinstance(row, ChunkRow) or not row.key:
            continue
        named.add(_short(row.key))
    gone = [key for key in old if _short(key) not in named]
    await bucket.delete(gone)
    return len(gone)


def _short(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=12).digest()


async def sweep(bucket: Bucket, store: Store) -> None:
    """Every day in the bucket once a day, by one process at a time, until cancelled."""
    swept: dict[str, float] = {}
    while True:
        async with store.lease("sweep") as held:
            if held:
                for day in await bucket.days():
                    if time.monotonic() - swept.get(day, -EVERY) >= EVERY:
                        count = await sweep_day(bucket, store, day, time.time())
                        swept[day] = time.monotonic()
                        if count:
                            log.info("objects that no row names were deleted", day=day, objects=count)
        await asyncio.sleep(PAUSE)
