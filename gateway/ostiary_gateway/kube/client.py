"""Requests to the API server: get, list, watch, create, replace, patch, delete and TokenReview, each with its end.

Every request has a time limit. Reads are tried again until it is over; writes only when they cannot have come to the
server, or the server says that it has not looked at them (429).
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, get_args

import orjson

from ostiary_gateway.kube.access import Access, Login
from ostiary_gateway.kube.errors import ApiError, KubeError, Unreachable
from ostiary_gateway.kube.resources import (
    TOKEN_REVIEWS,
    EventType,
    Kind,
    Listed,
    Object,
    Reviewed,
    WatchEvent,
)
from ostiary_gateway.version import version

if TYPE_CHECKING:
    import ssl

    import aiohttp
    from aiohttp.connector import AddrInfoType

TIMEOUT: Final = 10.0
"""Seconds for a request with its repetitions, unless told otherwise."""
CONNECT: Final = 4.0
"""Seconds for the connection and its TLS handshake, each time."""
ATTEMPTS: Final = 2.5
"""What can be asked again gets its time in so many parts: a kept connection may lead nowhere, and a new one not."""
SHORTEST: Final = 1.0
"""Seconds that such a part has at least."""
PAUSE: Final = (0.05, 2.0)
"""Seconds before the first repetition, and at most; doubled each time, and a random part of it is waited."""
PAGE: Final = 500
"""Objects of one page of a list."""
MAX_ANSWER: Final = 64 * 2**20
"""Bytes of one answer, and of one event of a watch."""
WATCH: Final = (240.0, 300.0)
"""Seconds after which the server is asked to end a watch, by chance between these."""
SILENCE: Final = 90.0
"""Seconds without a byte after which a watch is given up: the server sends a bookmark every minute."""

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
_RETRIED: Final = frozenset({429, 500, 502, 503, 504})
_READS: Final = frozenset({"GET"})


class KubeClient:
    """A client of one API server. `async with`, or `close` it. Methods raise ApiError, Unreachable or ConfigError."""

    def __init__(self, access: Access, *, chance: Callable[[], float] = random.random) -> None:
        self.access = access
        self.server = access.server
        self._login = Login(access)
        self._chance = chance
        self._session: aiohttp.ClientSession | None = None
        self._context: ssl.SSLContext | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes all connections. May be called again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
            await asyncio.sleep(0)  # its sockets are closed with the loop's next turn

    # -- objects

    async def get(self, kind: Kind, namespace: str, name: str, *, timeout: float = TIMEOUT) -> Object:
        """One object."""
        return await self.request("GET", kind.path(namespace, name), timeout=timeout)

    async def list(
        self,
        kind: Kind,
        namespace: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
        timeout: float = 3 * TIMEOUT,
    ) -> Listed:
        """All objects that are selected, read page by page."""
        items: list[Object] = []
        query = _query(labelSelector=label_selector, fieldSelector=field_selector, limit=str(PAGE))
        async with _limit(timeout, f"the list of {kind.plural}"):
            while True:
                page = await self.request("GET", kind.path(namespace), query=query, timeout=timeout)
                items += page.get("items") or ()
                metadata = page.get("metadata") or {}
                if not metadata.get("continue"):
                    return Listed(tuple(items), str(metadata.get("resourceVersion", "")))
                query["continue"] = str(metadata["continue"])

    async def create(
        self, kind: Kind, namespace: str, manifest: Object, *, subresource: str = "", timeout: float = TIMEOUT
    ) -> Object:
        """Makes an object; `reason` AlreadyExists if there is one of that name."""
        return await self.request("POST", kind.path(namespace, "", subresource), body=manifest, timeout=timeout)

    async def replace(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        manifest: Object,
        *,
        subresource: str = "",
        timeout: float = TIMEOUT,
    ) -> Object:
        """Writes an object, or its `status`. With a resourceVersion in it, `conflict` if that is not the last one."""
        path = kind.path(namespace, name, subresource)
        return await self.request("PUT", path, body=manifest, timeout=timeout)

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: object,
        *,
        subresource: str = "",
        content_type: str = MERGE_PATCH,
        field_manager: str = "",
        timeout: float = TIMEOUT,
    ) -> Object:
        """Changes an object, or its `status`. A resourceVersion in a merge patch's metadata guards it."""
        return await self.request(
            "PATCH",
            kind.path(namespace, name, subresource),
            query=_query(fieldManager=field_manager),
            body=patch,
            content_type=content_type,
            timeout=timeout,
        )

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        resource_version: str = "",
        timeout: float = TIMEOUT,
    ) -> Object:
        """Deletes an object; with `uid` or `resource_version` only if it is that one."""
        preconditions = _query(uid=uid, resourceVersion=resource_version)
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions} if preconditions else None
        return await self.request("DELETE", kind.path(namespace, name), body=body, timeout=timeout)

    async def review_token(self, token: str, audiences: Sequence[str], *, timeout: float = TIMEOUT) -> Reviewed:
        """Whose token this is, by the API server's word; for one of these audiences."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": list(audiences)},
        }
        # Nothing is stored: it may be asked again.
        answer = await self.request("POST", TOKEN_REVIEWS.path(), body=body, timeout=timeout, repeatable=True)
        status = answer.get("status") or {}
        user = status.get("user") or {}
        return Reviewed(
            authenticated=status.get("authenticated") is True,
            username=str(user.get("username", "")),
            uid=str(user.get("uid", "")),
            groups=tuple(map(str, user.get("groups") or ())),
            extra={str(key): tuple(map(str, values)) for key, values in (user.get("extra") or {}).items()},
            audiences=tuple(map(str, status.get("audiences") or ())),
            error=str(status.get("error", "")),
        )

    async def watch(
        self,
        kind: Kind,
        namespace: str,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        silence: float = SILENCE,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Everything that changes after `resource_version`, until the server ends it. Close it (`aclosing`).

        Raises ApiError with `expired` when so old a version is not known any more, Unreachable when the connection is
        lost, or when nothing was heard for `silence` seconds.
        """
        shortest, longest = WATCH
        seconds = shortest + (longest - shortest) * self._chance()
        query = _query(
            labelSelector=label_selector, fieldSelector=field_selector, resourceVersion=resource_version,
            timeoutSeconds=str(int(seconds)),
        )  # fmt: skip
        query |= {"watch": "true", "allowWatchBookmarks": "true"}
        what = f"the watch of {kind.plural}"
        async with self._answered("GET", kind.path(namespace), query, None, "", CONNECT + TIMEOUT) as response:
            buffer = bytearray()
            while True:
                async with _limit(silence, what):
                    with _Told(what):
                        chunk = await response.content.readany()
                if not chunk:
                    return
                buffer += chunk
                if b"\n" not in chunk:
                    if len(buffer) > MAX_ANSWER:
                        raise Unreachable(f"{what}: an event is larger than {MAX_ANSWER >> 20} MiB", sent=True)
                    continue
                *lines, rest = bytes(buffer).split(b"\n")
                buffer = bytearray(rest)
                for line in lines:
                    if line:
                        yield _event(line, what)

    # -- requests

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = JSON,
        timeout: float = TIMEOUT,
        repeatable: bool = False,
    ) -> Object:
        """The answer's JSON object. `repeatable`: it does no harm if the server gets it twice."""
        repeatable = repeatable or method in _READS
        packed = None if body is None else orjson.dumps(body)
        deadline = asyncio.get_running_loop().time() + timeout
        pause, renewed = PAUSE[0], False
        earlier: KubeError | None = None
        while True:
            left = deadline - asyncio.get_running_loop().time()
            part = min(left, max(timeout / ATTEMPTS, SHORTEST)) if repeatable else left
            try:
                async with self._answered(method, path, query or {}, packed, content_type, part) as response:
                    return await _object(response, f"{method} {path}")
            except ApiError as problem:
                if problem.status == 401 and not renewed and self._login.renewed():
                    renewed = True
                    continue
                if problem.status != 429 and not (repeatable and problem.status in _RETRIED):
                    raise
                failure: KubeError = problem
                wait = max(pause * self._chance(), problem.retry_after or 0.0)
            except Unreachable as problem:
                if problem.sent and not repeatable:
                    raise
                failure, wait = problem, pause * self._chance()
            now = asyncio.get_running_loop().time()
            if now >= deadline and earlier is not None:
                raise earlier  # it says more than that the time is over
            if now + wait >= deadline:
                raise failure
            earlier = failure
            await asyncio.sleep(wait)
            pause = min(pause * 2, PAUSE[1])

    @asynccontextmanager
    async def _answered(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | None, content_type: str, timeout: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One attempt: the answer's head has come, and it is no refusal."""
        what = f"{method} {path}"
        headers = {"Accept": JSON, "Accept-Encoding": "identity", "User-Agent": f"ostiary-gateway/{version()}"}
        if body is not None:
            headers["Content-Type"] = content_type
        if token := self._login.token():
            headers["Authorization"] = f"Bearer {token}"
        sent: list[bool] = []
        async with _limit(max(timeout, 0.0), what, sent):
            with _Told(what):
                session = await self._connected()
                response = await session.request(
                    method, self.server + path, params=dict(query), data=body, allow_redirects=False,
                    headers=[*headers.items(), *self.access.headers],
                    trace_request_ctx=sent, server_hostname=self.access.server_name or None,
                )  # fmt: skip
        try:
            if response.status >= 300:
                raise await _refusal(response, what)
            yield response
        finally:
            # Back to the pool if it was read to its end, closed otherwise.
            response.release() if response.content.at_eof() else response.close()

    async def _connected(self) -> aiohttp.ClientSession:
        context = self._login.context()
        if self._session is not None and self._context is not context:
            await self.close()
        if self._session is None:
            import aiohttp

            connector = aiohttp.TCPConnector(ssl=context, limit=0, keepalive_timeout=30.0, socket_factory=_socket)
            # trust_env is off: no proxy and no .netrc of the environment stands between.
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_connect=CONNECT),
                trace_configs=[_trace()],
            )
            # aiohttp sends a PUT or DELETE again by itself when the connection breaks, and there is no setting against
            # it. A resourceVersion-guarded write that came twice would be told as somebody else's.
            self._session._retry_connection = False
            self._context = context
        return self._session


def _socket(address: AddrInfoType) -> socket.socket:
    """A socket that finds out within half a minute that the other end is gone, though nothing is sent on it."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if (option := getattr(socket, name, None)) is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


_KEEPALIVE: Final = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
"""Linux has them all, others have some."""


class _Told:
    """What aiohttp raises becomes Unreachable, with words."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, KubeError):
            return
        import aiohttp

        if isinstance(error, (aiohttp.ClientError, OSError)):
            unsent = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
            text = str(error) or type(error).__name__
            raise Unreachable(f"the API server cannot be reached ({self._what}): {text}", sent=not unsent) from None


@asynccontextmanager
async def _limit(seconds: float, what: str, sent: Sequence[bool] = (True,)) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        text = f"the API server does not answer ({what}) within {seconds:.1f} s"
        raise Unreachable(text, sent=bool(sent)) from None


def _trace() -> aiohttp.TraceConfig:
    """Tells each request's list when something of it goes out."""
    import aiohttp

    async def sending(_: object, context: object, __: object) -> None:
        told = getattr(context, "trace_request_ctx", None)
        if isinstance(told, list):
            told.append(True)

    config = aiohttp.TraceConfig()
    config.on_request_headers_sent.append(sending)
    return config


async def _object(response: aiohttp.ClientResponse, what: str) -> Object:
    async with _limit(TIMEOUT, what):
        with _Told(what):
            body = await _body(response)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise Unreachable(f"the API server's answer to {what} is no JSON object; is something else there?", sent=True)
    return value


async def _refusal(response: aiohttp.ClientResponse, what: str) -> ApiError:
    retry_after = response.headers.get("Retry-After", "")
    async with _limit(TIMEOUT, what):
        with _Told(what):
            body = await _body(response)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    seconds = float(retry_after) if retry_after.isdecimal() and len(retry_after) < 6 else None
    return ApiError.of(response.status, value, seconds)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > MAX_ANSWER:
            raise Unreachable(f"the API server's answer is larger than {MAX_ANSWER >> 20} MiB", sent=True)
    return bytes(body)


def _event(line: bytes, what: str) -> WatchEvent:
    try:
        value = orjson.loads(line)
        kind, item = value["type"], value["object"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Unreachable(f"{what}: an event is no JSON; is something else there?", sent=True) from None
    if kind == "ERROR":
        raise ApiError.of(500, item)
    if kind not in get_args(EventType) or not isinstance(item, dict):
        raise Unreachable(f"{what}: an event of no known type", sent=True)
    return WatchEvent(kind, item)


def _query(**values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
