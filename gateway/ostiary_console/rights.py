"""What a person may see and do, asked of the API server as that person; believed for seconds, and nothing without it.

Verbs on `connections.ostiary.dev`: `review` to see recordings, `terminate` to end sessions, `approve` to answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final

from ostiary_console.api_server import TIMEOUT, ApiServer
from ostiary_console.signed_in import SignedIn
from ostiary_console.world import REVIEW
from ostiary_gateway.kube.client import KubeClient
from ostiary_gateway.kube.resources import Kind
from ostiary_store.model import ALL, Scope

GROUP: Final = "ostiary.dev"
RESOURCE: Final = "connections"
FRESH: Final = 10.0
"""Seconds for which an answer is believed: so long somebody sees what was just taken from them."""
AT_ONCE: Final = 8
"""Questions of one person under way at one time."""
MOST: Final = 4096
MAX_NAMES: Final = 500
"""Single Connections that one person is asked about."""
_ACCESS: Final = Kind("authorization.k8s.io", "v1", "selfsubjectaccessreviews")
_RULES: Final = Kind("authorization.k8s.io", "v1", "selfsubjectrulesreviews")

Known = Callable[[], Awaitable[Collection[str]]]
"""Connections that there are recordings of: `namespace/name`."""


class Rights:
    """Of everybody, each asked for as themselves."""

    def __init__(self, server: ApiServer, known: Known, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._known = known
        self._clock = clock
        self._scopes: OrderedDict[str, tuple[float, Scope]] = OrderedDict()
        self._may: OrderedDict[tuple[str, str, str], tuple[float, bool]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Scope]] = {}

    async def scope(self, who: SignedIn) -> Scope:
        """The Connections whose recordings the person may see. Raises Problem."""
        key = _key(who)
        at, found = self._scopes.get(key, (-FRESH, ALL))
        if self._clock() - at < FRESH:
            return found
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._asked(who))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        # A page has several parts that ask at once, and whoever leaves must not take the answer with them.
        found = await asyncio.shield(asking)
        self._scopes[key] = (self._clock(), found)
        self._scopes.move_to_end(key)
        while len(self._scopes) > MOST:
            self._scopes.popitem(last=False)
        return found

    async def spaces(self, who: SignedIn) -> list[str]:
        """Namespaces that are known here, for lists that the person may read in single ones. Raises Problem."""
        return sorted({connection.partition("/")[0] for connection in await self._known() if "/" in connection})

    async def may(self, who: SignedIn, verb: str, connection: str) -> bool:
        """Whether the person has the verb on this Connection. Raises Problem."""
        key = (_key(who), verb, connection)
        at, allowed = self._may.get(key, (-FRESH, False))
        if self._clock() - at < FRESH:
            return allowed
        namespace, _, name = connection.partition("/")
        async with self._server.as_person(who) as client:
            allowed = await _allowed(client, verb, namespace, name)
        self._may[key] = (self._clock(), allowed)
        self._may.move_to_end(key)
        while len(self._may) > MOST:
            self._may.popitem(last=False)
        return allowed

    async def _asked(self, who: SignedIn) -> Scope:
        async with self._server.as_person(who) as client:
            if await _allowed(client, REVIEW, "", ""):
                return ALL
            known = await self._known()
            spaces = sorted({connection.partition("/")[0] for connection in known if "/" in connection})
            slots = asyncio.Semaphore(AT_ONCE)

            async def within(space: str) -> set[str]:
                async with slots:
                    return await _within(client, space, known)

            found = await asyncio.gather(*(within(space) for space in spaces))
        return Scope(frozenset[str]().union(*found))


async def _within(client: KubeClient, space: str, known: Collection[str]) -> set[str]:
    """What may be seen in one namespace. A review of rules only says what to ask: the access review decides."""
    rules, whole = await _rules(client, space)
    everything = any(not names for names in rules)
    if (everything or not whole) and await _allowed(client, REVIEW, space, ""):
        return {f"{space}/*"}
    named = {name for names in rules for name in names}
    if not whole:
        named |= {connection.partition("/")[2] for connection in known if connection.startswith(f"{space}/")}
    found = set()
    for name in sorted(named)[:MAX_NAMES]:
        if await _allowed(client, REVIEW, space, name):
            found.add(f"{space}/{name}")
    return found


async def _rules(client: KubeClient, space: str) -> tuple[list[Sequence[str]], bool]:
    """The names in each rule that gives `review` (none: of all), and whether these are all the rules there are."""
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": space}}
    answer = await client.request("POST", _RULES.path(), body=body, timeout=TIMEOUT, repeatable=True)
    status: dict[str, Any] = answer.get("status") or {}
    found: list[Sequence[str]] = [
        tuple(map(str, rule.get("resourceNames") or ()))
        for rule in status.get("resourceRules") or ()
        if {REVIEW, "*"} & set(rule.get("verbs") or ())
        and {GROUP, "*"} & set(rule.get("apiGroups") or ())
        and {RESOURCE, "*"} & set(rule.get("resources") or ())
    ]
    return found, not status.get("incomplete")


async def _allowed(client: KubeClient, verb: str, namespace: str, name: str) -> bool:
    attributes = {"group": GROUP, "resource": RESOURCE, "verb": verb}
    attributes |= {"namespace": namespace} if namespace else {}
    attributes |= {"name": name} if name else {}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = await client.request("POST", _ACCESS.path(), body=body, timeout=TIMEOUT, repeatable=True)
    status = answer.get("status") or {}
    return status.get("allowed") is True and status.get("denied") is not True


def _key(who: SignedIn) -> str:
    """A person, and the credential: a new token may be for less."""
    return "\0".join((who.id, who.name, *who.groups, str(who.token_ends)))
