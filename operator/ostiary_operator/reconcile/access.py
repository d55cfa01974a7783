"""Who a gateway is and what it may do, and who may connect to it: ServiceAccount, Roles, NetworkPolicy, Services."""

from __future__ import annotations

from ostiary_api.gateway_state import STATE_PORT
from ostiary_api.meta import GROUP
from ostiary_api.names import child_labels, child_name, pod_selector, system_role_name
from ostiary_operator.observed import Manifest, Observed

RBAC = "rbac.authorization.k8s.io"


def service_account(meta: Manifest) -> Manifest:
    """The gateway's own identity. Its token is mounted only where the pod asks for it."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta, "automountServiceAccountToken": False}


def role(
    meta: Manifest, *, config_maps: list[str], secrets: list[str], connections: list[str], accounts: list[str]
) -> Manifest:
    """What the gateway may do in its namespace: its own objects, by name; questions to approvers; tokens of the
    ServiceAccounts that its Connections log in with, by name."""
    rules: list[Manifest] = [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": config_maps,
            "verbs": ["get", "list", "watch"],
        },
        # The API server's admission asks for this verb before it takes a question about a Connection.
        {"apiGroups": [GROUP], "resources": ["connections"], "resourceNames": connections, "verbs": ["serve"]},
        # Names cannot be given for objects that are not there yet; what it may create and change is for admission.
        {"apiGroups": [GROUP], "resources": ["approvalrequests"], "verbs": ["create", "get", "list", "watch"]},
        {"apiGroups": [GROUP], "resources": ["approvalrequests/status"], "verbs": ["patch", "update"]},
    ]
    if secrets:
        # Without names, the rule would be for all Secrets.
        rules.append({"apiGroups": [""], "resources": ["secrets"], "resourceNames": secrets, "verbs": ["get"]})
    if accounts:
        tokens = {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": accounts}
        rules.append({**tokens, "verbs": ["create"]})
    return {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": meta, "rules": rules}


def role_binding(meta: Manifest, role_name: str, namespace: str, gateway: str) -> Manifest:
    """The Role, for the gateway's ServiceAccount."""
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": meta,
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": role_name},
        "subjects": [{"kind": "ServiceAccount", "name": child_name(gateway), "namespace": namespace}],
    }


def system_access(system_namespace: str, namespace: str, gateway: str, secrets: list[str]) -> list[Manifest]:
    """Role and RoleBinding for the Secrets that policies of the system namespace name.

    The gateway cannot be their owner (owners are of one namespace): their labels tell whose they are when it is gone.
    """
    name = system_role_name(namespace, gateway)
    meta: Manifest = {"name": name, "namespace": system_namespace, "labels": child_labels(namespace, gateway)}
    rules = [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": secrets, "verbs": ["get"]}]
    return [
        {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": meta, "rules": rules},
        role_binding(meta, name, namespace, gateway),
    ]


def network_policy(observed: Observed, meta: Manifest, gateway: str, ports: list[int]) -> Manifest:
    """Agents reach the Connections' ports from anywhere; the operator, monitoring and peers the admin port.

    Egress stays open: where targets, identity providers and the API server are is known to the cluster's owner only.
    """
    system = observed.settings.system_namespace
    namespace = meta["namespace"]
    admin_from: list[Manifest] = [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": system}}},
        {"podSelector": {"matchLabels": pod_selector(namespace, gateway)}},
        *(dict(peer) for peer in observed.settings.gateway.network_policy.monitoring_from),
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta,
        "spec": {
            "podSelector": {"matchLabels": pod_selector(namespace, gateway)},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"ports": [{"protocol": "TCP", "port": port} for port in sorted(ports)]},
                {"from": admin_from, "ports": [{"protocol": "TCP", "port": STATE_PORT}]},
            ],
        },
    }


def connection_service(meta: Manifest, gateway: str, protocol: str, port: int) -> Manifest:
    """Where agents connect."""
    listener = {"name": protocol.lower(), "port": port, "targetPort": port, "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {
            "type": "ClusterIP",
            "ipFamilyPolicy": "PreferDualStack",
            "selector": pod_selector(meta["namespace"], gateway),
            "ports": [listener],
        },
    }


def peers_service(meta: Manifest, gateway: str) -> Manifest:
    """The gateway's pods by DNS, those that drain as well: a CancelRequest may be for a session of theirs."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "ipFamilyPolicy": "PreferDualStack",
            "publishNotReadyAddresses": True,
            "selector": pod_selector(meta["namespace"], gateway),
            "ports": [{"name": "admin", "port": STATE_PORT, "targetPort": STATE_PORT, "protocol": "TCP"}],
        },
    }
