"""What was seen of the cluster at one moment, as values: the one input of reconcile. Pure.

Objects are under `namespace/name`. An Observed is a snapshot: who watches makes a new one after a change, from the same
values for what did not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from pydantic import ValidationError

from ostiary_api.connection import Connection
from ostiary_api.gateway_state import GatewayState
from ostiary_api.names import GATEWAY_LABEL, GATEWAY_NAMESPACE_LABEL, MANAGED_BY_LABEL, MANAGER
from ostiary_api.policy import GatewayPolicy
from ostiary_api.problems import explain, format_path
from ostiary_api.units import MANIFEST
from ostiary_operator.gateway_settings import GatewaySettings

Manifest = dict[str, Any]
"""An object as the API server gives and takes it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Of the operator, as far as they decide what is made."""

    gateway: GatewaySettings
    system_namespace: str = "ostiary-system"
    gateways_binding: str = "ostiary-gateways"
    """ClusterRoleBinding whose subjects are all gateways; empty: none."""
    store_ca: str = ""
    """PEM of who may sign the store's certificate; empty: whom the gateway's image trusts."""
    protocols: frozenset[str] = frozenset({"Postgres"})
    """What gateways of this version serve (`extensions.load().protocols`)."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with a stored object, and with which field of it."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


@dataclass(frozen=True, slots=True)
class Seen:
    """What every object of ours has. `labels` count as much as the spec: policies select by them."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: str
    """creationTimestamp, RFC 3339; of two Connections that cannot both be served the younger waits."""
    deleting: bool
    status: Manifest
    """As it is stored; empty if nobody has written it."""

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class SeenConnection(Seen):
    """A Connection. `model` is None if what is stored is not valid (it may be older than the schema)."""

    model: Connection | None
    problems: tuple[FieldProblem, ...] = ()

    @property
    def gateway(self) -> str:
        """Name of its gateway; that of the Connection if it is not valid."""
        return (self.model.spec.gateway.name if self.model is not None else None) or self.name

    @property
    def gateway_key(self) -> str:
        """`namespace/name` of its gateway."""
        return f"{self.namespace}/{self.gateway}"


@dataclass(frozen=True, slots=True)
class SeenPolicy(Seen):
    """A GatewayPolicy. `model` is None if what is stored is not valid; `raw_match` is then what its match says."""

    model: GatewayPolicy | None
    problems: tuple[FieldProblem, ...] = ()
    raw_match: object = None


@dataclass(frozen=True, slots=True)
class SeenSecret:
    """A Secret, by its metadata. What is in it is not known here."""

    namespace: str
    name: str
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True)
class SeenPod:
    """A pod of a gateway. `waiting` says why a container does not run (`ImagePullBackOff: …`)."""

    name: str
    uid: str
    gateway_key: str
    ready: bool
    deleting: bool
    waiting: str = ""


class ChildKey(NamedTuple):
    """An object that the operator makes."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Approvals:
    """Whether approvals can be trusted in this cluster, and if not, why."""

    usable: bool = True
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Observed:
    """Everything that reconcile looks at."""

    settings: Settings
    connections: Mapping[str, SeenConnection] = field(default_factory=dict)
    policies: Mapping[str, SeenPolicy] = field(default_factory=dict)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labels of each namespace, by its name."""
    secrets: Mapping[str, SeenSecret] = field(default_factory=dict)
    tokens: frozenset[str] = frozenset()
    """Which of the Secrets are of type ostiary.dev/token."""
    children: Mapping[ChildKey, Manifest] = field(default_factory=dict)
    """Objects with our managed-by label. Of their data only what is short need be there."""
    foreign: frozenset[ChildKey] = frozenset()
    """Objects that have the name of a child and are not ours: they are never written."""
    failed: Mapping[ChildKey, str] = field(default_factory=dict)
    """Children that the API server refused at the last try, and what it said."""
    pods: Mapping[str, SeenPod] = field(default_factory=dict)
    """Pods of gateways, by `namespace/name`."""
    states: Mapping[str, GatewayState | str] = field(default_factory=dict)
    """What each pod told at /state, by the pod's uid; text: why it could not be asked."""
    approvals: Approvals = Approvals()

    @cached_property
    def by_gateway(self) -> Mapping[str, tuple[SeenConnection, ...]]:
        """The Connections of each gateway (`namespace/name`), oldest first, without those that are being deleted."""
        return _grouped((each, each.gateway_key) for each in self.connections.values() if not each.deleting)

    @cached_property
    def by_namespace(self) -> Mapping[str, tuple[SeenConnection, ...]]:
        """The Connections of each namespace, oldest first, without those that are being deleted."""
        return _grouped((each, each.namespace) for each in self.connections.values() if not each.deleting)

    @cached_property
    def pods_of(self) -> Mapping[str, tuple[SeenPod, ...]]:
        """The pods of each gateway (`namespace/name`), by name."""
        found: dict[str, list[SeenPod]] = {}
        for pod in self.pods.values():
            found.setdefault(pod.gateway_key, []).append(pod)
        return {key: tuple(sorted(pods, key=lambda pod: pod.name)) for key, pods in found.items()}

    @cached_property
    def children_of(self) -> Mapping[str, tuple[ChildKey, ...]]:
        """The children that are there of each gateway (`namespace/name`), as their labels say."""
        found: dict[str, list[ChildKey]] = {}
        for key, manifest in self.children.items():
            if is_ours(manifest) and (owner := gateway_of(manifest, self.settings.system_namespace)):
                found.setdefault(owner, []).append(key)
        return {owner: tuple(sorted(keys)) for owner, keys in found.items()}

    @cached_property
    def gateway_keys(self) -> frozenset[str]:
        """All gateways (`namespace/name`): those that Connections name, and those of which children are left."""
        return frozenset(self.by_gateway) | frozenset(self.children_of)


def _grouped(pairs: Iterable[tuple[SeenConnection, str]]) -> dict[str, tuple[SeenConnection, ...]]:
    found: dict[str, list[SeenConnection]] = {}
    for connection, group in pairs:
        found.setdefault(group, []).append(connection)
    return {group: tuple(sorted(items, key=lambda c: (c.created, c.name))) for group, items in found.items()}


def _labels(manifest: Mapping[str, Any]) -> Mapping[str, str]:
    labels: Mapping[str, str] = manifest["metadata"].get("labels") or {}
    return labels


def is_ours(manifest: Mapping[str, Any]) -> bool:
    """Whether the operator made the object."""
    return _labels(manifest).get(MANAGED_BY_LABEL) == MANAGER


def gateway_of(manifest: Mapping[str, Any], system_namespace: str = "") -> str:
    """`namespace/name` of the gateway that a child or pod is of; empty if its labels do not say, or cannot be true.

    Labels are written by whoever may write the object: one that lies in another namespace than the gateway's (but for
    Roles in `system_namespace`) is not the gateway's, whatever it says.
    """
    labels = _labels(manifest)
    namespace, name = labels.get(GATEWAY_NAMESPACE_LABEL, ""), labels.get(GATEWAY_LABEL, "")
    there = manifest["metadata"].get("namespace", "")
    return f"{namespace}/{name}" if namespace and name and there in (namespace, system_namespace) else ""


def child_key(manifest: Mapping[str, Any]) -> ChildKey:
    """The key of a child, from its manifest."""
    return ChildKey(manifest["kind"], manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])


def read_connection(manifest: Manifest, previous: SeenConnection | None = None) -> SeenConnection:
    """A Connection as it is stored. `previous`: the value of an earlier version, whose model is kept if it holds."""
    if previous is not None and previous.model is not None and _unchanged(manifest, previous, previous.model):
        return SeenConnection(*_seen(manifest), model=previous.model)
    model, problems = _parse(manifest, Connection)
    assert model is None or isinstance(model, Connection)
    return SeenConnection(*_seen(manifest), model=model, problems=problems)


def read_policy(manifest: Manifest, previous: SeenPolicy | None = None) -> SeenPolicy:
    """A GatewayPolicy as it is stored. `previous`: as for a Connection."""
    if previous is not None and previous.model is not None and _unchanged(manifest, previous, previous.model):
        return SeenPolicy(*_seen(manifest), model=previous.model)
    model, problems = _parse(manifest, GatewayPolicy)
    assert model is None or isinstance(model, GatewayPolicy)
    spec = manifest.get("spec")
    raw_match = spec.get("match") if isinstance(spec, dict) and model is None else None
    return SeenPolicy(*_seen(manifest), model=model, problems=problems, raw_match=raw_match)


def read_secret(manifest: Manifest) -> SeenSecret:
    """A Secret, from its metadata (PartialObjectMetadata)."""
    meta = manifest["metadata"]
    return SeenSecret(meta["namespace"], meta["name"], meta.get("uid", ""), meta.get("resourceVersion", ""))


def read_pod(manifest: Manifest) -> SeenPod:
    """A gateway's pod, from its metadata and status."""
    meta, status = manifest["metadata"], manifest.get("status") or {}
    conditions = {item.get("type"): item.get("status") for item in status.get("conditions") or ()}
    return SeenPod(
        name=meta["name"],
        uid=meta.get("uid", ""),
        gateway_key=gateway_of(manifest),
        ready=conditions.get("Ready") == "True",
        deleting=bool(meta.get("deletionTimestamp")) or status.get("phase") in ("Succeeded", "Failed"),
        waiting=_waiting(status),
    )


def _waiting(status: Mapping[str, Any]) -> str:
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if reason and reason not in ("ContainerCreating", "PodInitializing"):
            return f"{reason}: {message}" if message else str(reason)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason', 'Unschedulable')}: {condition.get('message', '')}".rstrip(": ")
    return ""


def _seen(manifest: Manifest) -> tuple[str, str, str, int, str, bool, Manifest]:
    meta = manifest["metadata"]
    status = manifest.get("status")
    return (
        str(meta.get("namespace", "")),
        str(meta["name"]),
        str(meta.get("uid", "")),
        int(meta.get("generation", 0)),
        str(meta.get("creationTimestamp") or ""),
        bool(meta.get("deletionTimestamp")),
        status if isinstance(status, dict) else {},
    )


def _unchanged(manifest: Manifest, previous: Seen, model: Connection | GatewayPolicy) -> bool:
    """Whether a model still says what the manifest does: labels may change without a new generation."""
    meta = manifest["metadata"]
    generation = meta.get("generation", 0)
    return bool(
        generation
        and (meta.get("uid"), generation) == (previous.uid, previous.generation)
        and (meta.get("labels") or {}) == model.metadata.labels
    )


def _parse(
    manifest: Manifest, kind: type[Connection] | type[GatewayPolicy]
) -> tuple[Connection | GatewayPolicy | None, tuple[FieldProblem, ...]]:
    # What others write into the metadata, and our own status, do not make an object invalid.
    meta = manifest["metadata"]
    kept = {key: meta[key] for key in ("name", "namespace", "labels", "uid", "generation") if meta.get(key) is not None}
    plain = {"apiVersion": manifest.get("apiVersion"), "kind": manifest.get("kind"), "metadata": kept}
    if "spec" in manifest:
        plain["spec"] = manifest["spec"]
    try:
        return kind.model_validate(plain, by_alias=True, by_name=False, context=MANIFEST), ()
    except ValidationError as error:
        found = explain(error, kind, secret=False)
        return None, tuple(FieldProblem(format_path(path), message) for path, message in found)
