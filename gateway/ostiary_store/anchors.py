"""Notes the newest seal outside of the store: in a file, at an HTTP endpoint, in a ConfigMap.

Seals name each other, so the newest one stands for all before it: what could not be noted for a while needs no queue,
only the newest one is tried again.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from ostiary_gateway.kube.errors import ApiError, KubeError
from ostiary_gateway.kube.resources import CONFIG_MAPS
from ostiary_store.anchored import MAX_TEXT, Anchored, anchored, line, noted, parse
from ostiary_store.model import SealRow

if TYPE_CHECKING:
    import aiohttp

    from ostiary_gateway.kube.client import KubeClient

TIMEOUT: Final = 15.0
"""Seconds for one attempt."""

PAUSE: Final = (1.0, 300.0)
"""Seconds before the first repetition, and at most."""

KEPT: Final = 1000
"""Anchors that a ConfigMap keeps, of about 250 bytes each; it may have 1 MiB."""

MANAGER: Final = "ostiary-store"

log = structlog.get_logger(__name__)


class Unnoted(Exception):
    """The seal could not be noted; try again."""


class Anchor(Protocol):
    """A place outside."""

    name: str

    async def note(self, seal: Anchored) -> None:
        """Unnoted if that did not work."""


class FileAnchor:
    """Lines of JSON, only ever appended, on the disk before it goes on. Best on another machine's disk, or one that
    only takes appends (`chattr +a`)."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    async def note(self, seal: Anchored) -> None:
        try:
            await asyncio.to_thread(self._append, line(seal) + b"\n")
        except OSError as error:
            raise Unnoted(f"{self._path}: {error.strerror}") from error

    def _append(self, data: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                data = b"\n" + data  # a crash tore the line before
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class HttpAnchor:
    """POST of the same JSON; whoever takes it can check the signature with the store's public key."""

    def __init__(self, url: str, token: Callable[[], str] | None = None) -> None:
        """token: read anew for every request."""
        self.name = url.partition("?")[0]
        self._url = url
        self._token = token

    async def note(self, seal: Anchored) -> None:
        import aiohttp

        try:
            headers = {"Content-Type": "application/json"}
            if self._token is not None:
                headers["Authorization"] = f"Bearer {self._token()}"
            timeout = aiohttp.ClientTimeout(total=TIMEOUT)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(self._url, data=line(seal), headers=headers, allow_redirects=False) as answer,
            ):
                if not 200 <= answer.status < 300:
                    raise Unnoted(f"{self.name} answered {answer.status}")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unnoted(f"{self.name}: {str(error) or 'no answer in time'}") from error


class ConfigMapAnchor:
    """The last anchors in a ConfigMap, in `anchors` the history and in `newest` the last. Server-side apply."""

    def __init__(self, client: KubeClient, namespace: str, name: str, kept: int = KEPT) -> None:
        self.name = f"configmap:{namespace}/{name}"
        self._client = client
        self._namespace, self._object, self._kept = namespace, name, kept
        self._history: list[bytes] | None = None

    async def note(self, seal: Anchored) -> None:
        try:
            if self._history is None:
                self._history = await self._held()
            history = [*self._history, line(seal)][-self._kept :]
            manifest = {
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {
                    "name": self._object, "namespace": self._namespace,
                    "labels": {"app.kubernetes.io/part-of": "ostiary", "app.kubernetes.io/component": "store"},
                },
                "data": {"newest": line(seal).decode(), "anchors": b"\n".join(history).decode()},
            }  # fmt: skip
            await self._client.patch(
                CONFIG_MAPS, self._namespace, self._object, manifest, content_type="application/apply-patch+yaml",
                field_manager=MANAGER,
            )  # fmt: skip
        except (KubeError, ValueError) as error:
            self._history = None  # it may stand otherwise now
            raise Unnoted(f"{self.name}: {error}") from error
        self._history = history

    async def _held(self) -> list[bytes]:
        try:
            found = await self._client.get(CONFIG_MAPS, self._namespace, self._object)
        except ApiError as error:
            if error.not_found:
                return []
            raise
        text = str((found.get("data") or {}).get("anchors", ""))
        return [each.encode() for each in text.splitlines() if each.strip()]


@dataclass(slots=True)
class _Place:
    anchor: Anchor
    every: float
    waiting: Anchored | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    noted: int = 0
    """Number of the last seal that was noted."""
    noted_at: float = 0.0
    failures: int = 0


class Anchoring:
    """All anchors of one process. `told` is called with each new seal, `run` in a task."""

    def __init__(self, anchors: Sequence[tuple[Anchor, float]]) -> None:
        """Each with the seconds that lie between two notes at least."""
        self.places = [_Place(anchor, every) for anchor, every in anchors]

    def told(self, seal: SealRow) -> None:
        """The newest seal. Never waits."""
        for place in self.places:
            place.waiting = anchored(seal)
            place.changed.set()

    async def run(self) -> None:
        """Until it is cancelled; what is still to be noted is then tried once more."""
        async with asyncio.TaskGroup() as group:
            for place in self.places:
                group.create_task(self._follow(place))

    async def _follow(self, place: _Place) -> None:
        try:
            while True:
                await place.changed.wait()
                if await self._note(place):
                    await asyncio.sleep(place.every)
        except asyncio.CancelledError:
            if place.waiting is not None:
                try:
                    async with asyncio.timeout(3):
                        await place.anchor.note(place.waiting)
                except (TimeoutError, Unnoted) as error:
                    log.warning("the last seal was not anchored", anchor=place.anchor.name, error=str(error))
            raise

    async def _note(self, place: _Place) -> bool:
        pause = PAUSE[0]
        while True:
            seal = place.waiting
            if seal is None:
                place.changed.clear()
                return False
            try:
                async with asyncio.timeout(2 * TIMEOUT):
                    await place.anchor.note(seal)
            except (Unnoted, TimeoutError) as error:
                place.failures += 1
                why = str(error) or "no answer in time"
                log.warning("a seal could not be anchored", anchor=place.anchor.name, error=why, again_in=round(pause))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, PAUSE[1])
                continue
            place.noted, place.noted_at = seal.number, time.time()
            if place.waiting is seal:
                place.waiting = None
                place.changed.clear()
            return True


# Reading them back


async def read(where: str, client: Callable[[], Awaitable[KubeClient]] | None = None) -> list[Anchored]:
    """The anchors in a file, at a URL, in `configmap:namespace/name`, or `NUMBER:HASH` itself. ValueError, OSError."""
    if where.startswith(("http://", "https://")):
        return list(parse(await _fetched(where), where.partition("?")[0]))
    if where.startswith("configmap:"):
        namespace, slash, name = where.removeprefix("configmap:").partition("/")
        if not slash or not name or client is None:
            raise ValueError(f"{where}: give it as configmap:NAMESPACE/NAME")
        try:
            found = await (await client()).get(CONFIG_MAPS, namespace, name)
        except KubeError as error:
            raise ValueError(f"{where} cannot be read: {error}") from error
        return list(parse(str((found.get("data") or {}).get("anchors", "")), where))
    text = await asyncio.to_thread(_file, Path(where))
    return [noted(where)] if text is None else list(parse(text, where))


def _file(path: Path) -> str | None:
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_TEXT:
        raise ValueError(f"{path} is too large to be a file of anchors")
    return path.read_text("utf-8", "replace")


async def _fetched(url: str) -> str:
    import aiohttp

    try:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            if answer.status != 200:
                raise ValueError(f"{url} answered {answer.status}")
            return await _bounded(answer.content)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ValueError(f"{url} cannot be read: {str(error) or 'no answer in time'}") from error


async def _bounded(content: aiohttp.StreamReader) -> str:
    found = bytearray()
    async for piece in content.iter_chunked(1 << 16):
        found += piece
        if len(found) > MAX_TEXT:
            raise ValueError("it is too large to be a list of anchors")
    return found.decode("utf-8", "replace")
