"""One gateway: the objects that should be there for it, in the order of applying them, and what is left over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ostiary_api.bundle_feed import BundleError
from ostiary_api.meta import API_VERSION
from ostiary_api.names import bundle_part_name, child_name, peers_name
from ostiary_operator.observed import ChildKey, Manifest, Observed, child_key
from ostiary_operator.reconcile import access, serving, workload
from ostiary_operator.reconcile.acceptance import Standing, Standings
from ostiary_operator.reconcile.bundles import GatewayBundle, bundle
from ostiary_operator.reconcile.serving import Refusal, Served

LOW_PORT = 1024
"""Below it, a process without privileges may not listen unless the pod says so."""


class NotSeenError(Exception):
    """What a plan depends on has not come through the watches. Made without it, a bundle would lack policies."""


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """What one gateway should be. `objects` are applied in this order, and then the `orphans` are deleted.

    `revision` is that of the bundle; empty if the gateway serves nothing. `served` and `refused` are names of
    Connections; `policies`: what is in force for each served one; `reached`: of how many Connections each policy
    (`namespace/name`) is in the bundle, and `revisions` in which revision. `made_from`: uid and generation of each
    Connection when the plan was made. `keys` are those of the objects. `foreign`: objects that are somebody else's
    and in the way. `problem`: why there is no bundle although there are Connections.
    """

    key: str
    revision: str = ""
    objects: tuple[Manifest, ...] = ()
    orphans: tuple[ChildKey, ...] = ()
    served: tuple[str, ...] = ()
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    policies: Mapping[str, tuple[Standing, ...]] = field(default_factory=dict)
    reached: Mapping[str, int] = field(default_factory=dict)
    revisions: Mapping[str, str] = field(default_factory=dict)
    made_from: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    keys: tuple[ChildKey, ...] = ()
    foreign: tuple[ChildKey, ...] = ()
    problem: str = ""

    @property
    def namespace(self) -> str:
        """Of the gateway and its Connections."""
        return self.key.partition("/")[0]

    @property
    def gateway(self) -> str:
        """Its name."""
        return self.key.partition("/")[2]


def plan(observed: Observed, standings: Standings, key: str) -> GatewayPlan:
    """Work out one gateway, by `namespace/name`. Every policy must have its standing (`acceptance.stale` is empty).

    Raises NotSeenError while the labels of the namespace are not known."""
    namespace, _, gateway = key.partition("/")
    served, refused = serving.sort_out(observed, key)
    there = observed.children_of.get(key, ())
    made_from = {seen.name: (seen.uid, seen.generation) for seen in observed.by_gateway.get(key, ())}
    if not served:
        orphans = tuple(child for child in there if not _moved(observed, key, child))
        return GatewayPlan(key, orphans=orphans, refused=refused, made_from=made_from)
    if namespace not in observed.namespaces:
        raise NotSeenError(f"namespace {namespace} was not seen yet: which policies are for it is not known")
    try:
        packed = bundle(observed, standings, namespace, gateway, served)
    except BundleError as error:
        # Better the last bundle than none: nothing is deleted.
        names = tuple(each.seen.name for each in served)
        return GatewayPlan(key, refused=refused, served=names, made_from=made_from, problem=str(error))
    wanted = _objects(observed, namespace, gateway, served, packed)
    keys = {child_key(manifest) for manifest in wanted}
    bound = [standing.bundled for group in packed.policies.values() for standing in group]
    objects = tuple(each for each in wanted if child_key(each) not in observed.foreign)
    return GatewayPlan(
        key=key,
        revision=packed.packed.revision,
        objects=objects,
        keys=tuple(map(child_key, objects)),
        orphans=tuple(child for child in there if child not in keys and not _moved(observed, key, child)),
        served=tuple(each.seen.name for each in served),
        refused=refused,
        policies=packed.policies,
        reached=Counter(policy.key for policy in bound),
        revisions={policy.key: policy.revision for policy in bound},
        made_from=made_from,
        foreign=tuple(sorted(keys & observed.foreign)),
    )


def _objects(
    observed: Observed, namespace: str, gateway: str, served: tuple[Served, ...], packed: GatewayBundle
) -> list[Manifest]:
    name = child_name(gateway)
    owners = tuple(_owner(each) for each in sorted(served, key=lambda each: each.seen.name))
    system = observed.settings.system_namespace

    def meta(child: str, owned_by: tuple[Manifest, ...] = owners) -> Manifest:
        return workload.metadata(namespace, gateway, child, owned_by)

    config_maps = packed.packed.config_maps(gateway)
    secrets = packed.secret_names(namespace)
    ports = [each.model.spec.listener.port for each in served]
    scaling = serving.autoscaling(observed, served)
    count = serving.replicas(served)
    connections = sorted(each.seen.name for each in served)
    objects = [
        access.service_account(meta(name)),
        access.role(
            meta(name),
            config_maps=list(config_maps),
            secrets=secrets,
            connections=connections,
            accounts=serving.token_accounts(observed, served),
        ),
        access.role_binding(meta(name), name, namespace, gateway),
    ]
    foreign_secrets = packed.secret_names(system) if system != namespace else []
    if foreign_secrets:
        objects += access.system_access(system, namespace, gateway, foreign_secrets)
    if observed.settings.gateway.network_policy.enabled:
        objects.append(access.network_policy(observed, meta(name), gateway, ports))
    for number in reversed(range(len(config_maps))):
        part = bundle_part_name(gateway, number)
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(part), "data": config_maps[part]})
    objects.append(access.peers_service(meta(peers_name(gateway)), gateway))
    for each in served:
        # A Service is its Connection's alone, and goes with it.
        own = meta(child_name(each.seen.name), (_owner(each),))
        spec = each.model.spec
        objects.append(access.connection_service(own, gateway, spec.protocol, spec.listener.port))
    objects.append(
        workload.deployment(
            observed, meta(name), gateway, replicas=count, scaling=scaling, low_ports=min(ports) < LOW_PORT
        )
    )
    if (scaling.min_replicas if scaling is not None else count) != 1:
        objects.append(workload.disruption_budget(meta(name), gateway))
    if scaling is not None:
        objects.append(workload.autoscaler(meta(name), gateway, scaling, count))
    return objects


def _moved(observed: Observed, gateway_key: str, child: ChildKey) -> bool:
    """Whether it is the Service of a Connection that another gateway serves now, which makes it its own."""
    if child.kind != "Service":
        return False
    for seen in observed.by_namespace.get(child.namespace, ()):
        if child_name(seen.name) == child.name and seen.gateway_key != gateway_key:
            served, _ = serving.sort_out(observed, seen.gateway_key)
            return any(each.seen.name == seen.name for each in served)
    return False


def _owner(each: Served) -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": "Connection",
        "name": each.seen.name,
        "uid": each.seen.uid,
        "controller": False,
        "blockOwnerDeletion": False,
    }
