"""The units of work, and which of them a change may concern. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from ostiary_operator.kube.kinds import Manifest
from ostiary_operator.observed import Observed, gateway_of

What = Literal["Gateway", "Connection", "GatewayPolicy", "ApprovalRequest", "Cluster"]


class Key(NamedTuple):
    """Something to be looked at: a gateway's children, an object's status, or what belongs to the whole cluster."""

    what: What
    name: str = ""
    """`namespace/name`."""

    def __str__(self) -> str:
        return f"{self.what} {self.name}".rstrip()


CLUSTER = Key("Cluster")


def of_change(
    observed: Observed, kind: str, key: str, old: Manifest | None, new: Manifest | None
) -> Iterator[Key]:
    """The keys to look at after a change that was seen. `observed` is what is known after it."""
    namespace, _, name = key.rpartition("/")
    system = observed.settings.system_namespace
    match kind:
        case "ApprovalRequest":
            if new is not None:
                yield Key("ApprovalRequest", key)
        case "Connection":
            if new is not None:
                yield Key("Connection", key)
            if not only_status(old, new):
                yield from (Key("Gateway", f"{namespace}/{each}") for each in _gateways_named(old, new))
                yield from policies(observed)
        case "GatewayPolicy":
            if new is not None:
                yield Key("GatewayPolicy", key)
            if not only_status(old, new):
                yield from gateways_of(observed, key)
        case "Namespace":
            if old is None or new is None or _labels(old) != _labels(new):
                yield from gateways(observed, name)
        case "Secret" | "tokens":
            # Policies of the system namespace hold everywhere, and their keys are there.
            yield from gateways(observed, "" if namespace == system else namespace)
        case "Pod":
            if owner := gateway_of(new or old or {"metadata": {}}):
                yield from told(observed, owner)
        case _:
            child = new or old or {"metadata": {}}
            owner = gateway_of(child, system)
            if not owner:
                return
            if only_status(old, new) and kind == "Deployment":
                yield from told(observed, owner)
            else:
                yield Key("Gateway", owner)


def told(observed: Observed, gateway: str) -> Iterator[Key]:
    """What is to be looked at when a pod of a gateway tells something else: the statuses that depend on it."""
    for connection in observed.by_gateway.get(gateway, ()):
        yield Key("Connection", connection.key)
    namespace = gateway.partition("/")[0]
    yield from policies(observed, {namespace, observed.settings.system_namespace})


def gateways_of(observed: Observed, policy: str) -> Iterator[Key]:
    """The gateways that a policy (`namespace/name`) may concern."""
    namespace = policy.partition("/")[0]
    return gateways(observed, "" if namespace == observed.settings.system_namespace else namespace)


def gateways(observed: Observed, namespace: str = "") -> Iterator[Key]:
    """All gateways, or those of a namespace."""
    for key in observed.gateway_keys:
        if not namespace or key.startswith(f"{namespace}/"):
            yield Key("Gateway", key)


def policies(observed: Observed, namespaces: Iterable[str] | None = None) -> Iterator[Key]:
    """All policies, or those of some namespaces."""
    wanted = None if namespaces is None else set(namespaces)
    for policy in observed.policies.values():
        if wanted is None or policy.namespace in wanted:
            yield Key("GatewayPolicy", policy.key)


def everything(observed: Observed, approvals: Iterable[str]) -> Iterator[Key]:
    """All there is to look at."""
    yield from gateways(observed)
    for connection in observed.connections:
        yield Key("Connection", connection)
    yield from policies(observed)
    for approval in approvals:
        yield Key("ApprovalRequest", approval)
    yield CLUSTER


def only_status(old: Manifest | None, new: Manifest | None) -> bool:
    """Whether nothing changed but what the generation does not count: the status, annotations, versions."""
    if old is None or new is None:
        return False
    one, other = old["metadata"], new["metadata"]
    return (
        one.get("uid") == other.get("uid")
        and bool(one.get("generation"))
        and one.get("generation") == other.get("generation")
        and _labels(old) == _labels(new)
        and one.get("deletionTimestamp") == other.get("deletionTimestamp")
        and one.get("ownerReferences") == other.get("ownerReferences")
    )


def _gateways_named(*manifests: Manifest | None) -> set[str]:
    """The gateways that the versions of a Connection name."""
    found = set()
    for manifest in manifests:
        if manifest is not None:
            spec = manifest.get("spec")
            gateway = spec.get("gateway") if isinstance(spec, dict) else None
            name = gateway.get("name") if isinstance(gateway, dict) else None
            found.add(str(name or manifest["metadata"]["name"]))
    return found


def _labels(manifest: Manifest) -> Manifest:
    return manifest["metadata"].get("labels") or {}
