"""What is there once for the cluster: who of all gateways may ask the API server whose a token is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ostiary_api.names import child_name
from ostiary_operator.observed import Manifest, Observed
from ostiary_operator.reconcile.access import RBAC
from ostiary_operator.reconcile.gateways import GatewayPlan


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """Objects to apply. Their other fields are the chart's; nothing is to be created that is not there."""

    objects: tuple[Manifest, ...] = ()


def plan(observed: Observed, plans: Mapping[str, GatewayPlan], unplanned: Collection[str] = ()) -> ClusterPlan:
    """The subjects of the chart's ClusterRoleBinding: the ServiceAccounts of all gateways that serve something.

    `unplanned`: gateways that cannot be planned just now. They keep what they may have, and hold up no other.
    """
    name = observed.settings.gateways_binding
    if not name:
        return ClusterPlan()
    asking = {key for key, each in plans.items() if each.served} | (set(unplanned) & observed.by_gateway.keys())
    subjects = [
        {"kind": "ServiceAccount", "name": child_name(gateway), "namespace": namespace}
        for namespace, _, gateway in (key.partition("/") for key in sorted(asking))
    ]
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": observed.settings.gateway.cluster_role},
        "subjects": subjects,
    }
    return ClusterPlan((binding,))
