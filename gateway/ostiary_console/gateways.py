"""The gateways of a cluster: what is open at each now, and an end to it. Each gets a token that no other one takes.

Where they are is what their own records say; a gateway is believed for sessions of its own namespace only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import aiohttp
import orjson

from ostiary_console.problems import Problem, away
from ostiary_gateway.admin.console import audience_of
from ostiary_gateway.admin.sessions import END, LIVE
from ostiary_gateway.kube.client import KubeClient
from ostiary_gateway.kube.errors import KubeError
from ostiary_gateway.kube.resources import SERVICE_ACCOUNTS, TOKEN_REVIEWS
from ostiary_gateway.logging import get_logger

log = get_logger(__name__)

TIMEOUT: Final = 3.0
"""Seconds for one gateway."""
AT_ONCE: Final = 16
MOST: Final = 500
"""Gateway processes that are asked."""
FRESH: Final = 1.0
"""Seconds for which a list is good: however many look, gateways are asked no more often."""
RECENT: Final = 900.0
"""Seconds since a gateway was heard of, after which it is not asked any more."""
TOLD: Final = 120.0
"""Seconds in which one that does not answer is told of: after that it surely has ended."""
MAX_ANSWER: Final = 8 * 1024 * 1024
TOKEN_SECONDS: Final = 600
EARLY: Final = 60.0

Records = Callable[[], Awaitable[Sequence[Mapping[str, object]]]]


@dataclass(frozen=True, slots=True)
class Found:
    """Open sessions, each with `gateway` and `at` (where it can be ended)."""

    items: Sequence[Mapping[str, Any]]
    unreachable: tuple[str, ...] = ()


class Tokens(Protocol):
    async def token(self, gateway: str) -> str:
        """For the gateway `namespace/name`. Raises KubeError."""


class OwnTokens:
    """Of the console's own ServiceAccount, by TokenRequest, each for one gateway only."""

    def __init__(self, client: KubeClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._account: tuple[str, str] | None = None
        self._tokens: dict[str, tuple[float, str]] = {}

    async def token(self, gateway: str) -> str:
        until, known = self._tokens.get(gateway, (0.0, ""))
        if self._clock() < until - EARLY:
            return known
        space, name = await self._own()
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [audience_of(gateway)], "expirationSeconds": TOKEN_SECONDS},
        }
        answer = await self._client.create(SERVICE_ACCOUNTS, space, {**body}, subresource=f"{name}/token")
        token = str((answer.get("status") or {}).get("token", ""))
        if len(self._tokens) >= MOST:
            self._tokens.clear()
        self._tokens[gateway] = (self._clock() + TOKEN_SECONDS, token)
        return token

    async def _own(self) -> tuple[str, str]:
        if self._account is None:
            body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
            answer = await self._client.request("POST", SELF_REVIEWS, body=body, repeatable=True)
            user = str(((answer.get("status") or {}).get("userInfo") or {}).get("username", ""))
            begin, _, rest = user.partition("system:serviceaccount:")
            space, colon, name = rest.partition(":")
            if begin or not colon:
                raise KubeError(f"the console is {user}, and only a ServiceAccount can ask for tokens of its own")
            self._account = space, name
        return self._account


SELF_REVIEWS: Final = TOKEN_REVIEWS.path().replace("tokenreviews", "selfsubjectreviews")


class Gateways:
    """`records`: of the store. `tokens`: None if gateways cannot be asked here."""

    def __init__(self, records: Records, tokens: Tokens | None, clock: Callable[[], float] = time.time) -> None:
        self._records = records
        self._tokens = tokens
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._last: tuple[float, Found] | None = None
        self._asking: asyncio.Task[Found] | None = None

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def live(self) -> Found:
        """Of all of them. Raises StoreError if it is not known where they are."""
        if self._last is not None and self._clock() - self._last[0] < FRESH:
            return self._last[1]
        if self._asking is None:
            self._asking = asyncio.create_task(self._asked())
            self._asking.add_done_callback(self._answered)
        return await asyncio.shield(self._asking)

    def _answered(self, asking: asyncio.Task[Found]) -> None:
        self._asking = None
        if not asking.cancelled() and asking.exception() is None:
            self._last = (self._clock(), asking.result())

    async def _asked(self) -> Found:
        now = self._clock()
        places: dict[str, tuple[str, str, float]] = {}
        for record in await self._records():
            address, gateway = str(record.get("address") or ""), str(record.get("gateway") or "")
            last = record.get("last")
            heard = float(last) if isinstance(last, (int, float)) else 0.0
            if address and "/" in gateway and now - heard < RECENT and heard >= places.get(address, ("", "", 0.0))[2]:
                places[address] = (gateway, str(record.get("instance") or ""), heard)
        slots = asyncio.Semaphore(AT_ONCE)
        items: list[Mapping[str, Any]] = []
        unreachable: list[str] = []

        async def one(address: str, gateway: str, instance: str, heard: float) -> None:
            async with slots:
                try:
                    answer = await self._ask("GET", address, gateway, LIVE)
                except (KubeError, OSError, ValueError, TimeoutError, aiohttp.ClientError, Problem) as problem:
                    log.info("a gateway does not answer", gateway=gateway, address=address, problem=str(problem))
                    if now - heard < TOLD:
                        unreachable.append(f"{gateway} ({instance})" if instance else gateway)
                    return
            space = gateway.partition("/")[0]
            items.extend(
                {**each, "gateway": gateway, "at": address}
                for each in answer.get("items") or ()
                if isinstance(each, dict) and str(each.get("connection", "")).startswith(f"{space}/")
            )

        async with asyncio.TaskGroup() as tasks:
            for address, place in list(places.items())[:MOST]:
                tasks.create_task(one(address, *place))
        return Found(items, tuple(sorted(unreachable)))

    async def end(self, person: str, connection: str, target: str, reason: str) -> str:
        """Ends a session or request of a Connection, open at one of them. Raises Problem."""
        session = target.partition("-")[0]
        # By its Connection as well: a gateway can claim the id of another's session, and the right is to that one only.
        wanted = session, connection
        live = (await self.live()).items
        found = next((each for each in live if (each.get("session"), each.get("connection")) == wanted), None)
        if found is None:
            raise Problem(404, "It has ended", f"{session} is open at no gateway that answers.", "See Live.")
        body = orjson.dumps({"target": target, "reason": reason, "person": person})
        try:
            answer = await self._ask("POST", str(found["at"]), str(found["gateway"]), END, body)
        except (KubeError, OSError, ValueError, TimeoutError, aiohttp.ClientError) as problem:
            said = str(problem) or type(problem).__name__
            raise away(f"The gateway {found['gateway']} cannot be asked: {said}.") from None
        self._last = None
        return str(answer.get("ended", target))

    async def _ask(self, method: str, address: str, gateway: str, path: str, body: bytes = b"") -> Mapping[str, Any]:
        if self._tokens is None:
            raise KubeError("this console has no ServiceAccount that gateways know")
        headers = {"Authorization": f"Bearer {await self._tokens.token(gateway)}"}
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)
        async with (
            asyncio.timeout(TIMEOUT),
            self._session.request(
                method, f"http://{address}{path}", data=body or None, headers=headers, allow_redirects=False
            ) as response,
        ):
            text = await response.content.read(MAX_ANSWER + 1)
            while len(text) <= MAX_ANSWER and (more := await response.content.read(MAX_ANSWER)):
                text += more
        if len(text) > MAX_ANSWER:
            raise ValueError("the answer is too long")
        if response.status in (404, 405) and path == LIVE:
            raise ValueError("it knows no console: it was started without --console-account")
        answer = orjson.loads(text)
        if not isinstance(answer, dict):
            raise ValueError("the answer is no object")
        if response.status != 200:
            raise Problem(response.status, "Refused", str(answer.get("message", "The gateway refused.")))
        return answer
