"""The bundle at the admin socket: what is in force, for the console of this machine.

    GET  /bundle    {"connections": [Connection …], "policies": [GatewayPolicy …], "revision": …}

Manifests without secrets (these are named in them, not held), each with a status of `conditions` and, of Connections,
`endpoint` and `policies`, as the operator writes them in a cluster. For the gateway's owner and root only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ostiary_gateway.admin.http import Request
from ostiary_gateway.admin.local_socket import AdminProblem, Given, Routes, asker, told
from ostiary_gateway.approvals.people import Approvers
from ostiary_policy.bundle import Bundle
from ostiary_policy.policy import CompiledPolicy

BUNDLE: Final = "/bundle"


class BundleDesk:
    """`tell`: the bundle in force; `endpoints`: where agents connect; `troubles`: what is wrong, by Connection."""

    def __init__(
        self, tell: Callable[[], Bundle], endpoints: Callable[[], Mapping[tuple[str, str], tuple[str, int]]],
        troubles: Callable[[], Mapping[str, str]], approvers: Approvers,
    ) -> None:  # fmt: skip
        self._tell = tell
        self._endpoints = endpoints
        self._troubles = troubles
        self._approvers = approvers

    @property
    def routes(self) -> Routes:
        return {("GET", BUNDLE): told(self._show)}

    async def _show(self, request: Request, given: Given) -> object:
        person = asker(request)
        if person.uid not in (self._approvers.owner, 0):
            raise AdminProblem(403, "owner", f"{person.name} may not read what is in force at this gateway.")
        bundle = self._tell()
        policies: dict[tuple[str, str], Any] = {key: _policy(each) for key, each in bundle.policies.items()}
        connections = []
        endpoints, troubles = self._endpoints(), self._troubles()
        for key, bound in bundle.connections.items():
            names = [each.name for each in bound.policies]
            for each in bound.policies:
                policies[each.key]["status"]["connections"].append(f"{key[0]}/{key[1]}")
            manifest = bound.connection.to_manifest()
            trouble = troubles.get(f"{key[0]}/{key[1]}", "")
            status: dict[str, Any] = {"conditions": [_condition("Programmed", not trouble, trouble)]}
            if (endpoint := endpoints.get(key)) is not None:
                status["endpoint"] = {"host": endpoint[0], "port": endpoint[1]}
            status["policies"] = [dict(zip(("namespace", "name"), name.split("/", 1), strict=True)) for name in names]
            connections.append({**manifest, "status": status})
        return {"connections": connections, "policies": list(policies.values()), "revision": bundle.revision}


def _policy(policy: CompiledPolicy) -> dict[str, Any]:
    wrong = "; ".join(f"{each.field}: {each.message}" for each in policy.problems)
    status = {"conditions": [_condition("Accepted", not wrong, wrong)], "connections": []}
    return {**policy.model.to_manifest(), "status": status}


def _condition(kind: str, good: bool, message: str) -> dict[str, str]:
    return {"type": kind, "status": "True" if good else "False", "message": message}
