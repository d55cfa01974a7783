"""Live sessions for the console of a cluster, at the admin address of a pod: listed, and ended in a person's name.

    GET  /sessions/live    {"items": [Session …]}, as at the admin socket
    POST /sessions/end     {"target", "reason", "person"} → {"ended": TARGET}

Both need the token of one ServiceAccount, the console's, made for this gateway only: the API server says whose it is.
Whether the person may do it the console has asked the API server; here it is told to the agent, logged and recorded.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ostiary_gateway.admin.http import Handler, Request
from ostiary_gateway.admin.local_socket import AdminProblem, Given, Routes, told
from ostiary_gateway.admin.sessions import END, LIVE, SessionsDesk, asked_end
from ostiary_gateway.identity.proof import MAX_USERNAME, is_name
from ostiary_gateway.kube.errors import KubeError
from ostiary_gateway.kube.resources import Reviewed
from ostiary_gateway.logging import get_logger

log = get_logger(__name__)

AUDIENCE: Final = "ostiary-gateway-admin"
FRESH: Final = 10.0
"""Seconds that an accepted token is taken again without a question."""
REVIEWS: Final = (10, 1.0)
"""Questions to the API server: so many at once, and so many more a second, whatever comes."""
MAX_TOKEN: Final = 16_000
TIMEOUT: Final = 5.0


def audience_of(gateway: str) -> str:
    """Of tokens for the gateway `namespace/name`: one that got hold of a token cannot use it at another."""
    return f"{AUDIENCE}/{gateway}"


def account_of(text: str) -> str:
    """The user name of `NAMESPACE/NAME` or `system:serviceaccount:NAMESPACE:NAME`. ValueError."""
    parts = text.removeprefix("system:serviceaccount:").replace(":", "/").split("/")
    if len(parts) != 2 or not all(part and part.replace("-", "").replace(".", "").isalnum() for part in parts):
        raise ValueError(f"{text!r} is no ServiceAccount: write NAMESPACE/NAME")
    return f"system:serviceaccount:{parts[0]}:{parts[1]}"


class Reviewer(Protocol):
    """Who asks the API server: `ostiary_gateway.kube`."""

    async def review_token(self, token: str, audiences: Sequence[str], *, timeout: float = ...) -> Reviewed:
        """Raises KubeError."""


class ConsoleDesk:
    """`account`: the user name of the console's ServiceAccount. `gateway`: this one, `namespace/name`."""

    def __init__(
        self, sessions: SessionsDesk, reviewer: Reviewer, account: str, gateway: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._sessions = sessions
        self._reviewer = reviewer
        self._account = account
        self._audience = audience_of(gateway)
        self._clock = clock
        self._good: dict[bytes, float] = {}
        self._left = (float(REVIEWS[0]), clock())

    @property
    def routes(self) -> Routes:
        handlers: dict[tuple[str, str], Handler] = {("GET", LIVE): told(self._list), ("POST", END): told(self._end)}
        return handlers

    async def _list(self, request: Request, given: Given) -> object:
        await self._check(request)
        return {"items": await self._sessions.all()}

    async def _end(self, request: Request, given: Given) -> object:
        await self._check(request)
        target, reason, person = asked_end(request.body)
        if not is_name(person, MAX_USERNAME):
            raise AdminProblem(400, "request", "An end needs the name of the person who asks for it.")
        return {"ended": await self._sessions.end(target, reason, person, through=self._account)}

    async def _check(self, request: Request) -> None:
        """Raises AdminProblem unless it is the console."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN or not token.isascii():
            raise AdminProblem(401, "token", "This is for the console, which sends its token.")
        digest = hashlib.sha256(token.encode()).digest()
        if self._clock() < self._good.get(digest, 0.0):
            return
        self._take_turn()
        try:
            reviewed = await self._reviewer.review_token(token, (self._audience,), timeout=TIMEOUT)
        except KubeError as problem:
            log.warning("the console's token cannot be reviewed", problem=str(problem))
            raise AdminProblem(503, "review", "The API server cannot be asked about the token now.") from None
        if not reviewed.authenticated or self._audience not in reviewed.audiences:
            raise AdminProblem(401, "token", "The token is not for the admin address of this gateway.")
        if reviewed.username != self._account:
            log.warning("somebody else than the console came", username=reviewed.username)
            raise AdminProblem(403, "account", "The token is not that of the console.")
        self._good = {each: until for each, until in self._good.items() if self._clock() < until}
        self._good[digest] = self._clock() + FRESH

    def _take_turn(self) -> None:
        left, at = self._left
        most, rate = REVIEWS
        left = min(float(most), left + (self._clock() - at) * rate)
        self._left = (left, self._clock())
        if left < 1:
            raise AdminProblem(429, "busy", "Too many tokens came that are not known. Try again in a moment.")
        self._left = (left - 1, self._clock())
