"""Short-lived tokens of one ServiceAccount (TokenRequest): one at a time for all requests, renewed before it expires.

A token is in this process's memory only. Source: Kubernetes API, TokenRequest (authentication.k8s.io/v1); a server may
give another lifetime than was asked for, which its answer says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from ostiary_gateway.credentials.static import CredentialError
from ostiary_gateway.kube.errors import ApiError, KubeError
from ostiary_gateway.kube.resources import SERVICE_ACCOUNTS, Object
from ostiary_gateway.logging import get_logger

log = get_logger(__name__)

RENEW: Final = 0.8
"""Part of a token's life after which another is asked for."""
TIMEOUT: Final = 10.0
"""Seconds for a TokenRequest."""
SHORTEST: Final = 600
"""Seconds: the API server gives none for less."""
PAUSE: Final = (1.0, 30.0)
"""Seconds before the first repetition of one that failed, and at most; doubled each time."""
DOUBT: Final = 10.0
"""Seconds after a token was thrown away in which the next is kept: there are answers to come for the old."""

Headers = list[tuple[bytes, bytes]]


class TokenClient(Protocol):
    """KubeClient, as far as it is needed."""

    async def request(self, method: str, path: str, *, body: object = None, timeout: float = TIMEOUT) -> Object: ...

    async def close(self) -> None: ...


class AccountTokens:
    """`ready()` is the header of a token that is good now; None: await `headers()`, which gets one or says why not.

    `ttl` in seconds. `who` is the user that asks, where it is known, for the command that grants the right.
    """

    def __init__(
        self,
        client: TokenClient,
        namespace: str,
        name: str,
        ttl: float,
        *,
        who: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._namespace, self._name = namespace, name
        self._ttl = max(int(ttl), SHORTEST)
        self._who = who
        self._clock = clock
        self._headers: Headers | None = None
        self._renew = self._expires = 0.0
        self._thrown_away = -DOUBT
        self._problem, self._pause, self._next = "", PAUSE[0], 0.0
        self._task: asyncio.Task[None] | None = None

    def ready(self) -> Headers | None:
        """At once. When a token nears its end, another is asked for beside the requests that still use it."""
        now = self._clock()
        if now >= self._renew and self._headers is not None:
            if now >= self._expires:
                self._headers = None
            elif now >= self._next:
                self._task = self._begin()
        return self._headers

    async def headers(self) -> Headers:
        """With a token, asked for if there is none. Raises CredentialError."""
        found = self.ready()
        if found is None and (not self._problem or self._clock() >= self._next):
            # Neither is cancelled with the other: the answer is for all who wait, and each of them may go.
            await asyncio.wait([self._begin()])
            found = self.ready()
        if found is None:
            raise CredentialError(self._problem or "the token that the API server gave has expired already")
        return found

    def refused(self) -> bool:
        """The API server does not take the token. Whether another try may help: there is, or will be, another token."""
        now = self._clock()
        if now - self._thrown_away >= DOUBT:
            # Its ServiceAccount was made anew, or the keys were: this one is good for nothing more.
            self._thrown_away, self._headers = now, None
        return True

    async def close(self) -> None:
        """Forgets the token, and asks no more."""
        task, self._task, self._headers = self._task, None, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._client.close()

    def _begin(self) -> asyncio.Task[None]:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._ask())
        return self._task

    async def _ask(self) -> None:
        begun = self._clock()
        try:
            answer = await self._client.request(
                "POST",
                SERVICE_ACCOUNTS.path(self._namespace, self._name, "token"),
                body={
                    "apiVersion": "authentication.k8s.io/v1",
                    "kind": "TokenRequest",
                    "spec": {"expirationSeconds": self._ttl},
                },
                timeout=TIMEOUT,
            )
            token, life = _token(answer)
        except (KubeError, CredentialError) as problem:
            self._problem = self._told(problem)
            self._next = self._clock() + self._pause
            self._pause = min(self._pause * 2, PAUSE[1])
            log.error("no token of a ServiceAccount", account=self._account, problem=self._problem)
            return
        self._headers = [(b"authorization", b"Bearer " + token)]
        self._renew, self._expires = begun + life * RENEW, begun + life
        self._problem, self._pause, self._next = "", PAUSE[0], 0.0

    @property
    def _account(self) -> str:
        return f"{self._namespace}/{self._name}"

    def _told(self, problem: KubeError | CredentialError) -> str:
        said = f"the gateway gets no token of ServiceAccount {self._account}"
        if isinstance(problem, ApiError) and problem.not_found:
            make = f"kubectl create serviceaccount {self._name} -n {self._namespace}"
            return f"{said}: there is none; make it ({make}), or name another"
        if isinstance(problem, ApiError) and problem.forbidden:
            return f"{said}: it may not; {self.grant()}"
        return f"{said}: {problem}"

    def grant(self) -> str:
        """The commands that allow it, for people."""
        role = f"token-of-{self._name}"
        return (
            f"kubectl create role {role} -n {self._namespace} --verb=create --resource=serviceaccounts/token "
            f"--resource-name={self._name} && kubectl create rolebinding {role} -n {self._namespace} --role={role} "
            f"{_subject(self._who)}"
        )


def _subject(who: str) -> str:
    namespace, _, name = who.removeprefix("system:serviceaccount:").partition(":")
    return f"--serviceaccount={namespace}:{name}" if name and namespace else f"--user={who or 'THE-GATEWAY'}"


def _token(answer: Object) -> tuple[bytes, float]:
    """The token, and the seconds that it lives. Raises CredentialError."""
    spec, status = answer.get("spec"), answer.get("status")
    token = status.get("token") if isinstance(status, dict) else None
    life = spec.get("expirationSeconds") if isinstance(spec, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token or " " in token:
        raise CredentialError("the API server's answer has no token")
    if not isinstance(life, int) or life <= 0:
        raise CredentialError("the API server's answer does not say how long its token lives")
    return token.encode(), float(life)
