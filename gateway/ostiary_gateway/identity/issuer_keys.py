"""The public keys of issuers: fetched over HTTPS, kept for as long as the issuer says, asked for again on need.

Discovery: OpenID Connect Discovery 1.0, 4 (`/.well-known/openid-configuration`). One fetch is under way for an issuer
at a time, and only logins with a JWT of that issuer wait for it.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol
from weakref import WeakValueDictionary

import structlog

from .jose import MAX_JWKS, BadToken, Header, KeySet, VerifyingKey, parse_jwks, parse_object

log = structlog.get_logger(__name__)

TIMEOUT: Final = 5.0
"""Seconds for one fetch, discovery included: a login has 30."""
MAX_DISCOVERY: Final = 64 * 1024
FRESH: Final = (60.0, 300.0, 3600.0)
"""Seconds that keys are good for: at least, where the issuer says nothing, at most (Cache-Control: max-age)."""
SPACING: Final = 10.0
"""Seconds between two fetches from one issuer, whatever tokens come: a stranger can make up key ids."""
LAST_GOOD: Final = 4 * 3600.0
"""Seconds that keys are still used while the issuer is away; then its tokens are refused."""


class KeysUnavailable(Exception):
    """The issuer's keys cannot be had. The text says why, for the gateway's operator."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A key set, and for how many seconds the issuer calls it fresh (None: it does not say)."""

    keys: KeySet
    fresh: float | None


class KeySource(Protocol):
    """Where an issuer's keys come from."""

    async def find(self, header: Header) -> VerifyingKey | None:
        """The key that signed, if the issuer has it. Raises KeysUnavailable, and BadToken if it may be several."""

    def has(self, thumbprint: str) -> bool:
        """Whether a key that was found may still be one of the issuer's."""


class FixedKeys:
    """Keys from a Secret."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    async def find(self, header: Header) -> VerifyingKey | None:
        return self._keys.find(header)

    def has(self, thumbprint: str) -> bool:
        return thumbprint in self._keys.thumbprints


class RemoteKeys:
    """Keys that an issuer publishes."""

    def __init__(
        self, name: str, fetch: Callable[[], Awaitable[Fetched]], tasks: set[asyncio.Task[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._name = name
        self._fetch = fetch
        self._tasks = tasks
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._fresh_until = 0.0
        self._tried_at: float | None = None
        self._problem = "it was not asked yet"
        self._flight: asyncio.Task[None] | None = None

    async def find(self, header: Header) -> VerifyingKey | None:
        if self._clock() >= self._fresh_until:
            await self._refresh()
        found = self._current().find(header)
        if found is None:
            # A new key, or a made-up one.
            await self._refresh()
            found = self._current().find(header)
        return found

    def has(self, thumbprint: str) -> bool:
        """True: a published key that was withdrawn ends no session; its tokens' end does."""
        del thumbprint
        return True

    def _current(self) -> KeySet:
        if self._keys is None:
            raise KeysUnavailable(self._problem)
        if self._clock() - self._fetched_at > LAST_GOOD:
            raise KeysUnavailable(f"its keys are {LAST_GOOD / 3600:.0f} hours old, and {self._problem}")
        return self._keys

    async def _refresh(self) -> None:
        """Fetches, or waits for the fetch that is under way; does nothing if the last one was a moment ago."""
        if self._flight is None:
            if self._tried_at is not None and self._clock() - self._tried_at < SPACING:
                return
            self._tried_at = self._clock()
            self._flight = asyncio.create_task(self._fly())
            self._tasks.add(self._flight)
            self._flight.add_done_callback(self._landed)
        # A login that is given up must not take the others' fetch with it.
        await asyncio.shield(self._flight)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._tasks.discard(flight)
        self._flight = None

    async def _fly(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                fetched = await self._fetch()
        except TimeoutError:
            self._problem = f"there was no answer within {TIMEOUT:.0f} s"
        except KeysUnavailable as problem:
            self._problem = str(problem)
        except Exception as problem:
            # Whatever it was, logins with the last good keys go on.
            self._problem = f"{type(problem).__name__}: {problem}"
            log.exception("fetching keys failed", issuer=self._name)
        else:
            shortest, usual, longest = FRESH
            self._keys = fetched.keys
            self._fetched_at = self._clock()
            fresh = usual if fetched.fresh is None else min(max(fetched.fresh, shortest), longest)
            self._fresh_until = self._fetched_at + fresh
            log.info("keys fetched", issuer=self._name, keys=len(fetched.keys.keys), fresh_seconds=int(fresh))
            return
        log.warning("keys not fetched", issuer=self._name, problem=self._problem, last_good=self._keys is not None)


class KeySources:
    """The remote keys of a gateway process: they outlive a reload for as long as somebody uses them."""

    def __init__(self) -> None:
        self._remote: WeakValueDictionary[tuple[str, str, str], RemoteKeys] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()

    def remote(self, issuer: str, jwks_url: str | None, authorities: str | None) -> RemoteKeys:
        """The keys of an issuer, by discovery if there is no `jwks_url`. `authorities`: PEM; None: the system's.

        Raises ssl.SSLError or ValueError if there is no certificate in `authorities`.
        """
        key = (issuer, jwks_url or "", authorities or "")
        found = self._remote.get(key)
        if found is None:
            context = ssl.create_default_context(cadata=authorities)
            context.minimum_version = ssl.TLSVersion.TLSv1_2

            async def fetch() -> Fetched:
                return await fetch_keys(issuer, jwks_url, context)

            found = self._remote[key] = RemoteKeys(issuer, fetch, self._tasks)
        return found

    async def close(self) -> None:
        """Ends fetches that are under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def fetch_keys(issuer: str, jwks_url: str | None, context: ssl.SSLContext) -> Fetched:
    """The issuer's keys, over HTTPS and without redirects. Raises KeysUnavailable."""
    # Loaded when an issuer is asked: a gateway without one does not pay for it.
    import aiohttp

    try:
        # trust_env is off: no proxy and no .netrc of the environment stands between.
        async with aiohttp.ClientSession(
            auto_decompress=False, headers={"Accept-Encoding": "identity", "User-Agent": "ostiary"}
        ) as session:

            async def get(url: str, most: int) -> tuple[bytes, str]:
                async with session.get(url, ssl=context, allow_redirects=False) as response:
                    if response.status != 200:
                        raise KeysUnavailable(f"{url} answers with status {response.status}")
                    body = b""
                    async for piece in response.content.iter_chunked(16384):
                        body += piece
                        if len(body) > most:
                            raise KeysUnavailable(f"what {url} answers is longer than {most >> 10} KiB")
                    return body, response.headers.get("Cache-Control", "")

            if jwks_url is None:
                jwks_url = _jwks_uri(issuer, (await get(_discovery(issuer), MAX_DISCOVERY))[0])
            body, cache = await get(jwks_url, MAX_JWKS)
    except (aiohttp.ClientError, OSError) as problem:
        raise KeysUnavailable(f"{type(problem).__name__}: {problem}") from None
    try:
        return Fetched(parse_jwks(body), _max_age(cache))
    except ValueError as problem:
        raise KeysUnavailable(f"{jwks_url}: {problem}") from None


def _discovery(issuer: str) -> str:
    return issuer.rstrip("/") + "/.well-known/openid-configuration"


def _jwks_uri(issuer: str, body: bytes) -> str:
    where = _discovery(issuer)
    try:
        document = parse_object(body, "answer")
    except BadToken:
        raise KeysUnavailable(f"{where} is no plain JSON object") from None
    if document.get("issuer") != issuer:
        raise KeysUnavailable(f"{where} speaks of another issuer")
    found = document.get("jwks_uri")
    if not isinstance(found, str) or not found.startswith("https://") or len(found) > 2048:
        raise KeysUnavailable(f"{where} has no jwks_uri that begins with https://")
    return found


def _max_age(cache_control: str) -> float | None:
    if re.search(r"\bno-(?:store|cache)\b", cache_control, re.IGNORECASE):
        return 0.0
    found = re.search(r"\bmax-age\s*=\s*\"?([0-9]{1,9})", cache_control, re.IGNORECASE)
    return float(found[1]) if found is not None else None
