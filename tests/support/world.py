"""A cluster as the operator sees it, in values: objects are put into it, and it is reconciled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ostiary_api.gateway_state import ConnectionState, GatewayState, ShippingState, UpstreamState
from ostiary_gateway.feed.fact_sources import fact_sources
from ostiary_gateway.masking.detectors import problem_of
from ostiary_operator.gateway_settings import GatewaySettings
from ostiary_operator.observed import (
    Approvals,
    ChildKey,
    Manifest,
    Observed,
    SeenConnection,
    SeenPod,
    SeenPolicy,
    SeenSecret,
    Settings,
    child_key,
    read_connection,
    read_policy,
)
from ostiary_operator.reconcile import acceptance, connections, gateways, policies
from ostiary_operator.reconcile.acceptance import Extensions, Recovered, Standing
from ostiary_operator.reconcile.gateways import GatewayPlan

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
EXTENSIONS = Extensions({name: each for name, each in fact_sources().items() if name != "SSH"}, problem_of)
"""Without SSH: as an operator that knows nothing of a protocol."""
ALLOW = {"name": "all", "action": "Allow", "expression": "true"}
NAMESPACE = "shop"


class World:
    """Put objects in, `settle`, and look at `plans` and statuses. A Connection that is put later is younger."""

    def __init__(self, **gateway: Any) -> None:
        self.settings = Settings(GatewaySettings.model_validate({"image": "gateway:1", **gateway}))
        self.connections: dict[str, SeenConnection] = {}
        self.policies: dict[str, SeenPolicy] = {}
        self.namespaces: dict[str, dict[str, str]] = {NAMESPACE: {"team": "shop"}, "ostiary-system": {}}
        self.secrets: dict[str, SeenSecret] = {}
        self.tokens: set[str] = set()
        self.children: dict[ChildKey, Manifest] = {}
        self.foreign: set[ChildKey] = set()
        self.failed: dict[ChildKey, str] = {}
        self.pods: dict[str, SeenPod] = {}
        self.states: dict[str, GatewayState | str] = {}
        self.approvals = Approvals()
        self.recovered = Recovered()
        self.standings: dict[str, Standing] = {}
        self.plans: dict[str, GatewayPlan] = {}
        self.compiled: list[str] = []
        self._count = 0

    # What people do

    def connection(
        self, name: str = "app-db", namespace: str = NAMESPACE, *, port: int = 5432, labels: Any = (), **spec: Any
    ) -> str:
        """Apply a Connection; its Secrets are made as well."""
        wanted = {
            "protocol": "Postgres",
            "upstream": {"host": "db.example"},
            "credentials": {"static": {"secretRef": {"name": f"{name}-login"}}},
            "listener": {"port": port},
            **spec,
        }
        manifest = self._manifest("Connection", name, namespace, wanted, dict(labels))
        self.put_connection(manifest)
        self.namespaces.setdefault(namespace, {})
        self.secret(f"{name}-login", namespace)
        return f"{namespace}/{name}"

    def put_connection(self, manifest: Manifest) -> None:
        seen = read_connection(manifest)
        self.connections[seen.key] = seen

    def policy(self, name: str, *rules: Mapping[str, Any], namespace: str = NAMESPACE, **spec: Any) -> str:
        """Apply a GatewayPolicy; again under the same name: a new generation of it."""
        manifest = self._manifest("GatewayPolicy", name, namespace, {"rules": [*map(dict, rules)], **spec}, {})
        if (old := self.policies.get(f"{namespace}/{name}")) is not None:
            manifest["metadata"] |= {"uid": old.uid, "generation": old.generation + 1}
            manifest["status"] = old.status
        seen = read_policy(manifest)
        self.policies[seen.key] = seen
        return seen.key

    def secret(self, name: str, namespace: str = NAMESPACE, *, token: bool = False) -> None:
        key = f"{namespace}/{name}"
        self._count += 1
        self.secrets[key] = SeenSecret(namespace, name, f"uid-{name}", str(self._count))
        if token:
            self.tokens.add(key)

    # What the cluster does

    def apply(self, *keys: str) -> None:
        """The plans' objects are there, and what they do not want is gone."""
        for key in keys or tuple(self.plans):
            for manifest in self.plans[key].objects:
                metadata = {**manifest["metadata"], "uid": f"uid-{child_key(manifest)}", "resourceVersion": "1"}
                self.children[child_key(manifest)] = {**manifest, "metadata": metadata}
            for orphan in self.plans[key].orphans:
                self.children.pop(orphan, None)

    def pod(self, gateway: str = "app-db", number: int = 1, *, ready: bool = True, **more: Any) -> str:
        """A pod of a gateway; gives its uid."""
        name = f"{gateway}-{number}"
        self.pods[f"{NAMESPACE}/{name}"] = SeenPod(name, f"uid-{name}", f"{NAMESPACE}/{gateway}", ready, False, **more)
        return f"uid-{name}"

    def tells(self, pod: str, revision: str, **more: Any) -> None:
        """What a pod says: every Connection listens and its target answers, unless `more` says otherwise."""
        named = more.pop("connections", None)
        if named is None:
            reached = UpstreamState(state="Reachable")
            named = tuple(
                ConnectionState(namespace=c.namespace, name=c.name, listening=True, upstream=reached)
                for c in self.connections.values()
            )
        if self.settings.gateway.store is not None:
            more.setdefault("shipping", ShippingState(state="Shipping"))
        self.states[pod] = GatewayState(revision=revision, connections=named, **more)

    def serve(self, gateway: str = "app-db", pods: int = 1) -> None:
        """All pods are ready and serve the newest bundle."""
        for number in range(1, pods + 1):
            self.tells(self.pod(gateway, number), self.plans[f"{NAMESPACE}/{gateway}"].revision)

    # What the operator does

    def observed(self) -> Observed:
        return Observed(
            self.settings,
            dict(self.connections),
            dict(self.policies),
            dict(self.namespaces),
            dict(self.secrets),
            frozenset(self.tokens),
            dict(self.children),
            frozenset(self.foreign),
            dict(self.failed),
            dict(self.pods),
            dict(self.states),
            self.approvals,
        )

    def settle(self) -> Observed:
        """Accept what changed, and plan every gateway. `compiled` says which policies were looked at."""
        observed = self.observed()
        self.compiled = acceptance.stale(observed, self.standings)
        for key in self.compiled:
            self.standings[key] = acceptance.accept(
                observed, key, self.standings.get(key), self.recovered, EXTENSIONS
            )
        self.standings = {key: each for key, each in self.standings.items() if key in self.policies}
        self.plans = {key: gateways.plan(observed, self.standings, key) for key in sorted(observed.gateway_keys)}
        return observed

    def plan(self, gateway: str = "app-db") -> GatewayPlan:
        self.settle()
        return self.plans[f"{NAMESPACE}/{gateway}"]

    def connection_status(self, name: str = "app-db", now: datetime = NOW) -> Manifest:
        """The status of a Connection, which is then stored."""
        observed = self.settle()
        seen = self.connections[f"{NAMESPACE}/{name}"]
        written = connections.status(observed, self.plans.get(seen.gateway_key), seen.key, now)
        self.connections[seen.key] = replace(seen, status=written.status)
        return written.status

    def policy_status(self, name: str, now: datetime = NOW, namespace: str = NAMESPACE) -> Manifest:
        """The status of a GatewayPolicy, which is then stored."""
        observed = self.settle()
        seen = self.policies[f"{namespace}/{name}"]
        written = policies.status(observed, self.standings, self.plans, seen.key, now)
        self.policies[seen.key] = replace(seen, status=written.status)
        return written.status

    def restart(self) -> None:
        """The operator begins anew: it knows what the API server stores, and nothing else."""
        maps = [manifest for key, manifest in self.children.items() if key.kind == "ConfigMap"]
        self.recovered = acceptance.recovered(maps)
        self.standings, self.plans = {}, {}

    def _manifest(self, kind: str, name: str, namespace: str, spec: Manifest, labels: dict[str, str]) -> Manifest:
        self._count += 1
        return {
            "apiVersion": "ostiary.dev/v1alpha1",
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": labels,
                "uid": f"uid-{name}-{self._count}",
                "generation": 1,
                "creationTimestamp": f"2026-01-01T00:{self._count // 60:02}:{self._count % 60:02}Z",
            },
            "spec": spec,
        }


def condition(status: Manifest, kind: str) -> tuple[str, str, str]:
    """Status, reason and message of a condition."""
    found = next(item for item in status["conditions"] if item["type"] == kind)
    return found["status"], found["reason"], found["message"]


def child(plan: GatewayPlan, kind: str, name: str = "ostiary-app-db") -> Manifest:
    """One object of a plan."""
    return next(each for each in plan.objects if (each["kind"], each["metadata"]["name"]) == (kind, name))
