"""The kinds that the operator reads or writes, and the paths of their objects in the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of objects, as the API serves it."""

    kind: str
    plural: str
    group: str
    version: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`apps/v1`; `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Path of a collection, an object or a subresource. Without a namespace: the collection of all."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{quote(namespace, safe='')}")
        parts.append(self.plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part]
        return "/".join(parts)


CONNECTION: Final = Kind("Connection", "connections", "ostiary.dev", "v1alpha1")
GATEWAY_POLICY: Final = Kind("GatewayPolicy", "gatewaypolicies", "ostiary.dev", "v1alpha1")
APPROVAL_REQUEST: Final = Kind("ApprovalRequest", "approvalrequests", "ostiary.dev", "v1alpha1")
NAMESPACE: Final = Kind("Namespace", "namespaces", "", "v1", namespaced=False)
SECRET: Final = Kind("Secret", "secrets", "", "v1")
POD: Final = Kind("Pod", "pods", "", "v1")
SERVICE_ACCOUNT: Final = Kind("ServiceAccount", "serviceaccounts", "", "v1")
CONFIG_MAP: Final = Kind("ConfigMap", "configmaps", "", "v1")
SERVICE: Final = Kind("Service", "services", "", "v1")
DEPLOYMENT: Final = Kind("Deployment", "deployments", "apps", "v1")
DISRUPTION_BUDGET: Final = Kind("PodDisruptionBudget", "poddisruptionbudgets", "policy", "v1")
NETWORK_POLICY: Final = Kind("NetworkPolicy", "networkpolicies", "networking.k8s.io", "v1")
AUTOSCALER: Final = Kind("HorizontalPodAutoscaler", "horizontalpodautoscalers", "autoscaling", "v2")
ROLE: Final = Kind("Role", "roles", "rbac.authorization.k8s.io", "v1")
ROLE_BINDING: Final = Kind("RoleBinding", "rolebindings", "rbac.authorization.k8s.io", "v1")
CLUSTER_ROLE_BINDING: Final = Kind(
    "ClusterRoleBinding", "clusterrolebindings", "rbac.authorization.k8s.io", "v1", namespaced=False
)
LEASE: Final = Kind("Lease", "leases", "coordination.k8s.io", "v1")
EVENT: Final = Kind("Event", "events", "events.k8s.io", "v1")

RESOURCES: Final = (CONNECTION, GATEWAY_POLICY, APPROVAL_REQUEST)
"""Ours: people write them."""

CHILDREN: Final = (
    SERVICE_ACCOUNT, ROLE, ROLE_BINDING, CONFIG_MAP, SERVICE, DEPLOYMENT, DISRUPTION_BUDGET, NETWORK_POLICY, AUTOSCALER,
)  # fmt: skip
"""What the operator makes, in the order in which it is applied: who needs something comes after it."""

_BY_NAME: Final = {
    (each.api_version, each.kind): each
    for each in (*RESOURCES, *CHILDREN, NAMESPACE, SECRET, POD, CLUSTER_ROLE_BINDING, LEASE, EVENT)
}


def kind_of(manifest: Manifest) -> Kind:
    """The kind of a manifest. Raises KeyError for one that the operator has no business with."""
    return _BY_NAME[manifest["apiVersion"], manifest["kind"]]


def key_of(manifest: Manifest) -> str:
    """`namespace/name`, or `name` of what is in no namespace."""
    metadata = manifest["metadata"]
    namespace = metadata.get("namespace", "")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])
