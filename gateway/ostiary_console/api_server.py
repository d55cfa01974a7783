"""The API server as the person who looks: with the person's own token, or in the person's name by impersonation.

With its own rights the console asks for what its ServiceAccount is for only: to impersonate, and tokens for gateways.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from ostiary_console.problems import Problem, away, bad, forbidden, signed_out
from ostiary_console.signed_in import SignedIn
from ostiary_gateway.kube.access import Access
from ostiary_gateway.kube.client import KubeClient
from ostiary_gateway.kube.errors import ApiError, KubeError
from ostiary_gateway.kube.resources import Kind

SELF_REVIEWS: Final = Kind("authentication.k8s.io", "v1", "selfsubjectreviews")
TIMEOUT: Final = 8.0
"""Seconds for one question, with its repetitions."""
MOST: Final = 128
"""People whose connections to the API server are kept."""
MAX_TOKEN: Final = 16_000
RESERVED: Final = "system:"
"""Names that only the API server gives: nobody is impersonated by such a one."""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Person:
    """Whom the API server takes somebody for."""

    name: str
    groups: tuple[str, ...]
    uid: str = ""


class ApiServer:
    """`access`: the way there, with the console's own credential. `async with`, or `close` it."""

    def __init__(self, access: Access, clock: Callable[[], float] = time.monotonic) -> None:
        self.own = KubeClient(access)
        self.server = access.server
        self._access = access
        self._nobody = replace(access, token="", token_file=None, certificate="", key="")
        self._clients: OrderedDict[str, KubeClient] = OrderedDict()
        self._busy: dict[str, int] = {}
        self._clock = clock

    async def close(self) -> None:
        clients, self._clients = list(self._clients.values()), OrderedDict()
        await asyncio.gather(self.own.close(), *(client.close() for client in clients), return_exceptions=True)

    @asynccontextmanager
    async def as_person(self, who: SignedIn) -> AsyncIterator[KubeClient]:
        """A client that is the person, for as long as the block lasts. What goes wrong there is raised as Problem."""
        if who.impersonate:
            key = "\0".join(("as", who.name, *who.groups))
            access = replace(self._access, headers=impersonation(who))
        elif who.token:
            key = f"by\0{who.token}"
            access = replace(self._nobody, token=who.token)
        else:
            raise forbidden("You have signed in without a way to the API server.", "Sign in with a token.")
        name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = KubeClient(access)
        self._clients.move_to_end(name)
        self._busy[name] = self._busy.get(name, 0) + 1
        try:
            with telling():
                yield client
        finally:
            self._busy[name] -= 1
            if not self._busy[name]:
                del self._busy[name]
            await self._let_go()

    async def _let_go(self) -> None:
        for name in list(self._clients)[: max(0, len(self._clients) - MOST)]:
            if name not in self._busy:
                await self._clients.pop(name).close()

    async def who_is(self, token: str) -> Person:
        """Whose token this is, by the API server's word. Raises Problem: 401 if it is nobody's."""
        if not token or len(token) > MAX_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
            raise signed_out("That is no token.")
        client = KubeClient(replace(self._nobody, token=token))
        try:
            with telling():
                body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
                answer = await client.request(
                    "POST", SELF_REVIEWS.path(), body=body, timeout=TIMEOUT, repeatable=True
                )  # fmt: skip
        finally:
            await client.close()
        user: dict[str, Any] = (answer.get("status") or {}).get("userInfo") or {}
        name = str(user.get("username", ""))
        if not name or name == "system:anonymous":
            raise signed_out("The API server takes this token for nobody's.")
        return Person(name, tuple(map(str, user.get("groups") or ())), str(user.get("uid", "")))


def impersonation(who: SignedIn) -> tuple[tuple[str, str], ...]:
    """The headers of who is impersonated. Raises Problem for a name that must not be."""
    names = (who.name, *who.groups)
    if any(name.startswith(RESERVED) or name != name.strip() or not name.isprintable() for name in names):
        raise forbidden("Your name or one of your groups is reserved, and nobody can act by it here.")
    groups = (*who.groups, "system:authenticated")
    return (("Impersonate-User", who.name), *(("Impersonate-Group", group) for group in groups))


class telling:  # noqa: N801 - reads as a word: `with telling():`
    """What the API server refuses becomes a Problem, in its own words."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Problem) or not isinstance(error, KubeError):
            return
        raise told(error) from error


def told(error: KubeError) -> Problem:
    """The API server's answer for people, as it is."""
    if not isinstance(error, ApiError):
        return away(f"The API server cannot be asked: {error}.")
    said = str(error)
    match error.status:
        case 401:
            return signed_out("The API server does not take your token, or not any more.")
        case 403:
            return forbidden(f"The API server refuses: {said}", "Ask who manages the cluster for the right.")
        case 404:
            return Problem(404, "Not found", f"The API server says: {said}")
        case 409 | 422:
            return Problem(error.status, "Refused", f"The API server says: {said}", "Look at it again.")
        case 400:
            return bad(f"The API server says: {said}")
    return away(f"The API server says: {said}")
