"""Asks every running gateway pod for its state, by long polls, so that a loaded revision is known at once.

Whoever may make pods in a namespace can label one like a gateway's, and say there what they like. So no answer is
believed beyond what it says of its own namespace's gateway, none is large, and none makes the operator busy.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from pydantic import ValidationError

from ostiary_api.gateway_state import STATE_PORT, GatewayState
from ostiary_operator.inventory import uid_of
from ostiary_operator.kube.kinds import Manifest
from ostiary_operator.logging import get_logger

log = get_logger(__name__)

_WAIT: Final = 25
"""Seconds that a pod may hold the answer."""
_MAX_BYTES: Final = 2**20
"""Of an answer: some thousand Connections."""
_LEAST_PAUSE: Final = 0.02
"""Between two polls."""
_LONGEST_PAUSE: Final = 5.0
_BURST: Final = 64.0
_RATE: Final = 4.0
"""Answers of one pod that are read at once, and each second after these; 16 KiB of an answer count as one more."""
_PIECE: Final = 16 * 1024
_REVISION: Final = re.compile(r"[0-9a-f]{0,64}")
_ETAG: Final = re.compile(r'"[0-9a-f]{1,64}"')


class BadStateError(Exception):
    """A pod answered something that is no state."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a pod said last. Without a state: the problem says why nothing is known."""

    state: GatewayState | None
    problem: str = ""


UNKNOWN: Final = Told(None, "not asked yet")


class Pace:
    """How long to wait before the next poll of a pod: nothing, until it answers faster than gateways do."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = _BURST
        self._at = clock()

    def spent(self, size: int) -> float:
        """An answer of so many bytes was read; the pause after it, in seconds."""
        now = self._clock()
        self._left = min(_BURST, self._left + (now - self._at) * _RATE) - 1.0 - size / _PIECE
        self._at = now
        return max(_LEAST_PAUSE, -self._left / _RATE)


class StatePolls:
    """One long poll for each pod. `changed` is called with the pod's key when something else is known of it."""

    def __init__(self, changed: Callable[[str], None], *, port: int = STATE_PORT) -> None:
        self._changed = changed
        self._port = port
        self._told: dict[str, Told] = {}
        self._polls: dict[str, tuple[str, asyncio.Task[None]]] = {}
        """Key of the pod → uid and address, its task."""
        self._session: aiohttp.ClientSession | None = None

    @property
    def told(self) -> Mapping[str, Told]:
        """Key of the pod → what it said last."""
        return self._told

    def counts(self) -> Mapping[str, int]:
        """How many polls go well, for the metrics."""
        found = Counter("failing" if told.state is None else "ok" for told in self._told.values())
        return {"ok": found["ok"], "failing": found["failing"]}

    def pod(self, key: str, pod: Manifest | None) -> None:
        """A pod is there, is so now, or is gone (None)."""
        address = "" if pod is None else _address(pod)
        wanted = f"{uid_of(pod)} {address}" if pod is not None and address else ""
        current = self._polls.get(key)
        if current is not None and current[0] == wanted:
            return
        if current is not None:
            current[1].cancel()
            del self._polls[key]
            self._told.pop(key, None)
        if wanted:
            self._told[key] = UNKNOWN
            self._polls[key] = wanted, asyncio.get_running_loop().create_task(self._poll(key, address))

    async def close(self) -> None:
        """Stop all polls."""
        tasks = [task for _, task in self._polls.values()]
        self._polls.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _poll(self, key: str, address: str) -> None:
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{self._port}/state"
        etag, failures, pace = "", 0, Pace(time.monotonic)
        while True:
            try:
                etag, state, size = await self._ask(url, etag)
                failures = 0
                pause = pace.spent(size)
                if state is not None:
                    self._tell(key, Told(state))
            except (aiohttp.ClientError, TimeoutError, OSError, BadStateError) as error:
                etag = ""
                failures += 1
                reason = str(error) or type(error).__name__
                log.debug("a gateway does not tell its state", pod=key, reason=reason)
                if failures >= 2:  # one broken connection is no news: the pod may have restarted
                    self._tell(key, Told(None, f"{url} does not answer: {reason}"[:500]))
                pause = min(_LONGEST_PAUSE, 0.1 * 2.0 ** min(failures, 8)) * random.uniform(0.7, 1.0)
            await asyncio.sleep(pause)

    def _tell(self, key: str, told: Told) -> None:
        before = self._told.get(key)
        self._told[key] = told
        if before is None or before.problem != told.problem or _etag(before) != _etag(told):
            self._changed(key)

    async def _ask(self, url: str, etag: str) -> tuple[str, GatewayState | None, int]:
        """The ETag, the state (None: it is as before), and how many bytes it had."""
        if self._session is None:
            # A pod's certificate would prove nothing here, and the document holds no secret: plain HTTP. Nothing is
            # unpacked, so that what is counted is what comes; and no cookie of one pod goes to another.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), trust_env=False, auto_decompress=False,
                headers={"Accept-Encoding": "identity"}, cookie_jar=aiohttp.DummyCookieJar(),
            )  # fmt: skip
        query, headers = ({"wait": str(_WAIT)}, {"If-None-Match": etag}) if etag else ({}, {})
        timeout = aiohttp.ClientTimeout(total=_WAIT + 10.0, sock_connect=3.0)
        async with self._session.get(
            url, params=query, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            if response.status == 304:
                return etag, None, 0
            if response.status != 200:
                raise BadStateError(f"HTTP {response.status}")
            data = bytearray()
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > _MAX_BYTES:
                    raise BadStateError(f"the state is longer than {_MAX_BYTES} bytes")
            try:
                state = GatewayState.model_validate_json(bytes(data))
            except ValidationError as error:
                raise BadStateError(f"no state: {error.error_count()} errors") from None
            if _REVISION.fullmatch(state.revision) is None:
                raise BadStateError("no state: its revision is none")
            found = response.headers.get("ETag", "")
            return found if _ETAG.fullmatch(found) else "", state, len(data)


def _etag(told: Told) -> str:
    return "" if told.state is None else told.state.etag()


def _address(pod: Manifest) -> str:
    status = pod.get("status") or {}
    running = status.get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
    return str(status.get("podIP") or "") if running else ""
