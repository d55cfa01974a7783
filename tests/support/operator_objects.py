"""Objects that tests of the operator create, and what they ask of them."""

from __future__ import annotations

from typing import Any

from support.cluster import Cluster

Manifest = dict[str, Any]
CHILDREN = "serviceaccount,role,rolebinding,configmap,service,deployment,networkpolicy,poddisruptionbudget"
OURS = "app.kubernetes.io/managed-by=ostiary-operator"


def connection(name: str = "app", **spec: Any) -> Manifest:
    return {
        "apiVersion": "ostiary.dev/v1alpha1",
        "kind": "Connection",
        "metadata": {"name": name, "labels": {"env": "prod"}},
        "spec": {
            "protocol": "Postgres",
            "upstream": {"host": "db.example", "database": "app", "tls": {"mode": "Disable"}},
            "credentials": {"static": {"secretRef": {"name": "app-db"}}},
            "listener": {"port": 6432, "tls": {"mode": "Disable"}},
            **spec,
        },
    }


def policy(name: str = "readers", expression: str = "sql.statements.all(s, s.readOnly)") -> Manifest:
    return {
        "apiVersion": "ostiary.dev/v1alpha1",
        "kind": "GatewayPolicy",
        "metadata": {"name": name},
        "spec": {
            "match": {"connectionSelector": {"matchLabels": {"env": "prod"}}},
            "rules": [{"name": "read", "action": "Allow", "expression": expression}],
        },
    }


def secret(name: str = "app-db", password: str = "one") -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": {"username": "app", "password": password},
    }


def create(where: Cluster, *manifests: Manifest) -> None:
    where.ok("apply", "-f", "-", manifest={"apiVersion": "v1", "kind": "List", "items": list(manifests)})


def names(where: Cluster) -> set[str]:
    """Our children in a namespace, as `kind/name`."""
    return set(where.ok("get", CHILDREN, "-l", OURS, "-o", "name").split())


def condition(where: Cluster, kind: str, name: str, which: str) -> Manifest:
    status = where.get(kind, name).get("status") or {}
    found: list[Manifest] = [each for each in status.get("conditions") or () if each["type"] == which]
    return found[0] if found else {"status": "", "reason": "", "message": ""}


def accepted(where: Cluster, name: str = "app", status: str = "True") -> bool:
    return bool(condition(where, "connection", name, "Accepted")["status"] == status)


def revision(where: Cluster, gateway: str = "app") -> str:
    found = where.kubectl("get", "configmap", f"ostiary-{gateway}", "-o", "jsonpath={.data.revision}")
    return found.stdout


EXPECTED = {
    "serviceaccount/ostiary-app",
    "role.rbac.authorization.k8s.io/ostiary-app",
    "rolebinding.rbac.authorization.k8s.io/ostiary-app",
    "configmap/ostiary-app",
    "service/ostiary-app",
    "service/ostiary-app-peers",
    "deployment.apps/ostiary-app",
    "networkpolicy.networking.k8s.io/ostiary-app",
}
