"""/state: what this gateway is, for the operator. Who asks with an ETag is held until something has changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs

from ostiary_api.gateway_state import MAX_WAIT, GatewayState
from ostiary_gateway.admin.http import MAX_DIGITS, Request, Response

JSON: Final = "application/json"
WAITERS: Final = 1024
"""Requests that may be held at one time."""
FROM_ONE: Final = 64
"""Of one address: the operator holds one, scrapers and the kubelet none."""


class StateBoard:
    """Serves what `tell` says. `touch` it whenever something may have changed: who waits is woken if it has."""

    def __init__(self, tell: Callable[[], GatewayState]) -> None:
        self._tell = tell
        self._etag = tell().etag()
        self._changed: asyncio.Event = asyncio.Event()

    def touch(self) -> None:
        """Look, and wake those who wait if there is something new."""
        etag = self._tell().etag()
        if etag != self._etag:
            self._etag = etag
            # All who wait have this one event: however many they are, it is one step.
            self._changed.set()
            self._changed = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        """GET /state, with `wait=SECONDS` and If-None-Match if it is to be held."""
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        state = self._tell()
        etag = state.etag()
        if etag in known and (seconds := _wait(request.query)):
            # What has changed without a touch is seen now, and what changes from here on is waited for.
            self.touch()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            state = self._tell()
            etag = state.etag()
        headers = {"ETag": etag}
        if etag in known:
            return Response(status=304, headers=headers)
        return Response(state.to_json(), content_type=JSON, headers=headers)


def _wait(query: str) -> float:
    """Seconds to hold a request; 0 for what is no number."""
    text = parse_qs(query).get("wait", [""])[-1]
    if not text.isascii() or not text.isdecimal() or len(text) > MAX_DIGITS:
        return 0.0
    return min(float(text), MAX_WAIT)
