"""A cluster: approvals, policies, Connections at the API server as the person who looks; gateways at admin ports."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from ostiary_api.approval import ApprovalRequestStatus
from ostiary_api.counting import state_of
from ostiary_console.api_server import TIMEOUT, ApiServer
from ostiary_console.gateways import Gateways
from ostiary_console.problems import changed
from ostiary_console.rights import Rights
from ostiary_console.signed_in import SignedIn
from ostiary_console.world import Decidable, Item, LiveNow, Manifest, Verb
from ostiary_gateway.approvals.objects import unfolded
from ostiary_gateway.kube.client import KubeClient
from ostiary_gateway.kube.errors import ApiError
from ostiary_gateway.kube.resources import APPROVAL_REQUESTS, Kind, Object
from ostiary_store.model import Scope

POLICIES: Final = Kind("ostiary.dev", "v1alpha1", "gatewaypolicies")
CONNECTIONS: Final = Kind("ostiary.dev", "v1alpha1", "connections")
SELFCHECK_LABEL: Final = "ostiary.dev/selfcheck"
FRESH: Final = 5.0
"""Seconds for which the number of open questions is believed."""
MOST: Final = 4096
MANAGER: Final = "ostiary-console"
JSON_PATCH: Final = "application/json-patch+json"
_OPEN: Final = frozenset({"Pending", "Approved"})


class ClusterWorld:
    """See World."""

    standalone = False

    def __init__(self, server: ApiServer, rights: Rights, gateways: Gateways) -> None:
        self._server = server
        self._rights = rights
        self._gateways = gateways
        self._pending: dict[str, tuple[float, int]] = {}

    async def close(self) -> None:
        await self._gateways.close()
        await self._server.close()

    async def scope(self, who: SignedIn) -> Scope:
        return await self._rights.scope(who)

    async def may(self, who: SignedIn, verb: Verb, connection: str) -> bool:
        return await self._rights.may(who, verb, connection)

    # -- approvals

    async def approvals(self, who: SignedIn, *, closed: bool) -> Sequence[Decidable]:
        async with self._server.as_person(who) as client:
            found = [item(each) for each in await self._listed(client, who, APPROVAL_REQUESTS) if _real(each)]
        self._note(who, found)
        shown = [each for each in found if closed or each["state"] in _OPEN]
        # Whether each may be answered is asked when one is looked at: a list may be long.
        return [Decidable(each, each["state"] == "Pending" and not _why_not(each, who)) for each in shown]

    async def approval(self, who: SignedIn, namespace: str, name: str) -> Decidable:
        async with self._server.as_person(who) as client:
            found = item(await client.get(APPROVAL_REQUESTS, namespace, name, timeout=TIMEOUT))
        why_not = _why_not(found, who)
        connection = f"{namespace}/{found['approval']['spec']['connectionRef']['name']}"
        if not why_not and not await self._rights.may(who, "approve", connection):
            why_not = f"you have not the verb approve on the Connection {connection}"
        return Decidable(found, not why_not, why_not)

    async def decide(
        self, who: SignedIn, namespace: str, name: str, verdict: str, reason: str, shown_hash: str
    ) -> None:
        entry = {"approver": who.name, "verdict": verdict, **({"reason": reason} if reason else {})}
        async with self._server.as_person(who) as client:
            now = await client.get(APPROVAL_REQUESTS, namespace, name, timeout=TIMEOUT)
            if now["spec"]["request"]["hash"] != shown_hash:
                raise changed("It is another question now than the one that you were shown.")
            patch = [
                {"op": "test", "path": "/metadata/uid", "value": now["metadata"]["uid"]},
                {"op": "test", "path": "/spec/request/hash", "value": shown_hash},
                {"op": "add", "path": "/spec/decisions/-", "value": entry},
            ]
            # Who answers, and whether they may, is for the API server's admission policies; what they say is shown.
            await client.patch(
                APPROVAL_REQUESTS, namespace, name, patch, content_type=JSON_PATCH, field_manager=MANAGER,
                timeout=TIMEOUT,
            )  # fmt: skip
        self._pending.pop(who.id, None)

    async def pending(self, who: SignedIn) -> int | None:
        at, found = self._pending.get(who.id, (-FRESH, 0))
        if time.monotonic() - at < FRESH:
            return found
        await self.approvals(who, closed=False)
        return self._pending[who.id][1]

    def _note(self, who: SignedIn, found: Sequence[Item]) -> None:
        if len(self._pending) >= MOST:
            self._pending.clear()
        self._pending[who.id] = (time.monotonic(), sum(each["state"] == "Pending" for each in found))

    # -- policies and Connections

    async def policies(self, who: SignedIn) -> Sequence[Manifest]:
        async with self._server.as_person(who) as client:
            return await self._listed(client, who, POLICIES)

    async def connections(self, who: SignedIn) -> Sequence[Manifest]:
        async with self._server.as_person(who) as client:
            return await self._listed(client, who, CONNECTIONS)

    async def _listed(self, client: KubeClient, who: SignedIn, kind: Kind) -> list[Object]:
        """Of all namespaces; who may not list all gets those of the namespaces in which something may be seen."""
        try:
            return list((await client.list(kind, "", timeout=TIMEOUT)).items)
        except ApiError as refused:
            if not refused.forbidden:
                raise
            spaces = await self._rights.spaces(who)
            found: list[Object] = []
            seen = False
            for space in spaces:
                try:
                    found += (await client.list(kind, space, timeout=TIMEOUT)).items
                    seen = True
                except ApiError as problem:
                    if not problem.forbidden:
                        raise
            if not seen:
                raise refused from None
            return found

    # -- gateways

    async def live(self) -> LiveNow:
        found = await self._gateways.live()
        return LiveNow(found.items, found.unreachable)

    async def end(self, who: SignedIn, connection: str, target: str, reason: str) -> str:
        return await self._gateways.end(who.name, connection, target, reason)


def item(approval: dict[str, Any]) -> Item:
    """An object as the pages take it."""
    request = unfolded(approval["spec"]["request"])
    status = approval.get("status")
    state = state_of(ApprovalRequestStatus.model_validate(status) if status else None)
    return {"approval": {**approval, "spec": {**approval["spec"], "request": request}}, "state": state, "acting": {}}


def _real(approval: Object) -> bool:
    return SELFCHECK_LABEL not in (approval["metadata"].get("labels") or {})


def _why_not(found: Item, who: SignedIn) -> str:
    """Why the API server would not take the answer, as far as the question itself says."""
    spec = found["approval"]["spec"]
    requester, groups = spec["requester"], spec["approval"]["groups"]
    if found["state"] != "Pending":
        return "it is closed"
    if who.name.startswith("system:serviceaccount:"):
        return "people answer, no ServiceAccounts"
    if who.name in (requester["username"], requester.get("onBehalfOf")):
        return "nobody answers what they asked for themselves, or what was asked on their behalf"
    if any(answer["approver"] == who.name for answer in spec.get("decisions") or ()):
        return "you have answered already; an answer is not changed"
    if not set(groups) & set(who.groups):
        return f"you are in none of the groups that may answer: {', '.join(groups)}"
    return ""


