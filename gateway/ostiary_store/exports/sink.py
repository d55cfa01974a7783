"""One destination over HTTP: a batch is POSTed, and what the answer means is said."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import orjson

from ostiary_notify.addresses import url_problem
from ostiary_notify.sender import Guarded, retry_after
from ostiary_store.settings import ExportSettings

_MAX_ANSWER: Final = 64 * 1024
_GZIP: Final = 3
"""Text compresses well enough at this level, and it costs a tenth of the default's time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a POST went."""

    ok: bool
    why: str = ""
    wait: float | None = None
    """Seconds that the receiver asks for."""
    too_large: bool = False
    rejected: int = 0
    """Records that it does not take though it took the others, and that must not be sent again (OTLP)."""


class Sink:
    """`async with` it, and `post`."""

    def __init__(self, settings: ExportSettings, content_type: str) -> None:
        self._settings = settings
        self._type = content_type
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Sink:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=Guarded(), limit=2), cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def post(self, body: bytes) -> Answer:
        """Never raises for what the receiver or the network does."""
        settings = self._settings
        if why := url_problem(settings.url, insecure=settings.insecure):
            return Answer(False, why)
        try:
            headers = await asyncio.to_thread(self._headers)
            trust = await asyncio.to_thread(_context, settings.ca_file) if settings.ca_file else True
        except (OSError, ValueError, ssl.SSLError) as problem:
            return Answer(False, str(problem))
        if settings.compression == "gzip":
            body = await asyncio.to_thread(gzip.compress, body, _GZIP, mtime=0)
        try:
            async with self._session.post(
                settings.url, data=body, headers=headers, allow_redirects=False, ssl=trust,
                proxy=settings.proxy, timeout=aiohttp.ClientTimeout(total=settings.timeout),
            ) as answer:  # fmt: skip
                return await self._judged(answer)
        except TimeoutError:
            return Answer(False, f"no answer within {settings.timeout:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            return Answer(False, str(problem) or type(problem).__name__)

    async def _judged(self, answer: aiohttp.ClientResponse) -> Answer:
        if 200 <= answer.status < 300:
            said = await answer.content.read(_MAX_ANSWER) if self._settings.type == "OTLP" else b""
            return _taken(said)
        why = f"it answered {answer.status}"
        if 300 <= answer.status < 400:
            return Answer(False, f"{why}: redirects are not followed; give the address itself")
        wait = retry_after(answer.headers.get("Retry-After", ""))
        return Answer(False, why, wait, too_large=answer.status == 413)

    def _headers(self) -> Mapping[str, str]:
        settings = self._settings
        found = {"Content-Type": self._type, "User-Agent": "ostiary"}
        if settings.compression == "gzip":
            found["Content-Encoding"] = "gzip"
        found |= settings.headers
        return found | {name: secret.read() for name, secret in settings.secret_headers.items()}


def _taken(said: bytes) -> Answer:
    """A 2xx; of OTLP, with what the receiver does not take of it."""
    try:
        partial = orjson.loads(said).get("partialSuccess") or {}
        rejected = int(partial.get("rejectedLogRecords") or 0)
        why = str(partial.get("errorMessage") or "")[:300]
    except (ValueError, TypeError, AttributeError):
        return Answer(True)
    return Answer(True, why, rejected=max(0, rejected))


def _context(path: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=path)
